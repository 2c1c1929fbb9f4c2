"""Checks the jobs of a comparison and answers it, for CompareJobs and for shares. The checks raise InvalidArgument."""

from collections.abc import Sequence

from crease.jobs.v1 import job_pb2
from services import errors
from services.jobs.domain import comparison
from services.jobs.domain.comparison import Analysis
from services.jobs.rpc import mapping
from services.jobs.store.database import parse_id

MAX_COMPARED = 20


def check_job_ids(job_ids: Sequence[str]) -> None:
    """Two jobs or more, each once."""
    if not 2 <= len(job_ids) <= MAX_COMPARED:
        raise errors.InvalidArgument("job_ids", f"must be 2 to {MAX_COMPARED}")
    # Parsed, because a client may write the same UUID in several ways.
    if len({parse_id(job_id) or job_id for job_id in job_ids}) != len(job_ids):
        raise errors.InvalidArgument("job_ids", "must not name a job twice")


def check_players(analyses: Sequence[Analysis]) -> None:
    """The sessions name a player in common."""
    if not comparison.common_players(analyses):
        raise errors.InvalidArgument("job_ids", "the sessions of these jobs name no player in common")


def compared(analyses: Sequence[Analysis]) -> job_pb2.CompareJobsResponse:
    """The comparison."""
    players = comparison.common_players(analyses)
    return job_pb2.CompareJobsResponse(
        player_ids=players,
        metrics=comparison.compare(analyses),
        caveats=comparison.caveats(analyses),
        players=[mapping.player(player) for player in analyses[0].players if player.id in players],
    )
