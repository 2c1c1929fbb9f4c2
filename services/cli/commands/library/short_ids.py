"""Short ids: the beginning of a job's id, which lists show and every command takes."""

import re
from uuid import UUID

from crease.jobs.v1.library_pb2 import SearchJobsRequest
from services.cli.api.client import Services
from services.cli.commands.options import Arguments, connect
from services.cli.errors import USAGE, CommandError

SHORT = re.compile(r"[0-9a-fA-F][0-9a-fA-F-]{3,35}")
SHORT_CHARACTERS = 8


def shorten(job_id: str) -> str:
    """The id as lists show it."""
    return job_id[:SHORT_CHARACTERS]


def expand(arguments: Arguments) -> None:
    """Replaces each short id in the option `job` by the whole one. Raises CommandError.

    Another text stays as it is: the services name what is wrong with it.
    """
    given = getattr(arguments, "job", None) or []
    ids = [given] if isinstance(given, str) else given
    if not any(map(_is_short, ids)):
        return
    with connect(arguments) as services:
        whole = [_find(services, text) if _is_short(text) else text for text in ids]
    arguments.job = whole[0] if isinstance(given, str) else whole


def _is_short(text: str) -> bool:
    if not SHORT.fullmatch(text):
        return False
    try:
        UUID(text)
    except ValueError:
        return True
    return False


def _find(services: Services, short: str) -> str:
    request = SearchJobsRequest(id_prefix=short, page_size=2)
    found = [entry.job.job_id for entry in services.call(services.library.SearchJobs, request).jobs]
    if not found:
        raise CommandError(f"No job of yours begins with {short}: `crease jobs` lists them.", is_refusal=True)
    if len(found) > 1:
        raise CommandError(f"Several jobs begin with {short}: {', '.join(found)}, …. Type more of the id.", USAGE)
    return found[0]
