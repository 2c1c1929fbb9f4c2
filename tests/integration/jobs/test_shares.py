"""Shares of reports, through a real `jobs` on a real PostgreSQL."""

import hashlib
import uuid
from functools import partial
from typing import Any

import psycopg
import pytest
from google.protobuf.duration_pb2 import Duration

from crease.jobs.v1 import intake_pb2, job_pb2, share_pb2
from services.jobs.background import retention
from services.jobs.store.database import Database
from tests.integration.jobs.test_library import player
from tests.integration.jobs.test_people import People, database_url, people, refused, run  # noqa: F401 (fixtures)

GONE = ("NOT_FOUND", "SHARE_NOT_FOUND", "This share does not exist, or it has ended")
HEAD = {"value": 0.2, "unit": "body_lengths", "confidence": 0.9, "plane": "image"}


def share(to: People, *job_ids: str, **fields: Any) -> share_pb2.CreateShareResponse:
    return to.shares.CreateShare(share_pb2.CreateShareRequest(job_ids=job_ids, **fields), metadata=to.coach)


def read(to: People, secret: str) -> intake_pb2.AuthorizeShareResponse:
    request = intake_pb2.AuthorizeShareRequest(secret=secret)
    return to.intake.AuthorizeShare(request, metadata=to.laptop.program("upload"))


def listed(to: People, metadata: Any = None) -> list[share_pb2.Share]:
    return list(to.shares.ListShares(share_pb2.ListSharesRequest(), metadata=metadata or to.coach).shares)


def revoke(to: People, share_id: str, metadata: Any = None) -> None:
    to.shares.RevokeShare(share_pb2.RevokeShareRequest(share_id=share_id), metadata=metadata or to.coach)


def anonymous(to: People, **session: Any) -> str:
    """A done job whose artifacts hide faces and names, in a session with names."""
    values = {"player_ids": ["Secret"], "title": "Secret title"} | session
    to.queued(session_id=to.session(**values).session_id, anonymous=True)
    return to.finish({"head": HEAD})


def test_whoever_has_the_secret_reads_the_report_without_names(people: People, database_url: str) -> None:  # noqa: F811
    """The database has a hash of the secret alone; the answer has results and files, and no text that people wrote."""
    job_id = anonymous(people)
    made = share(people, job_id)
    assert list(made.share.job_ids) == [job_id]
    assert made.share.expires_at.seconds - made.share.created_at.seconds == pytest.approx(7 * 86400, abs=60)
    shared = read(people, made.secret)
    [one] = shared.jobs
    assert (one.job, shared.expires_at) == (people.job(job_id), made.share.expires_at)
    assert b"Secret" not in shared.SerializeToString()
    assert not shared.HasField("compared")
    [(stored,)] = run(database_url, "SELECT secret_hash FROM shares")
    assert bytes(stored) == hashlib.sha256(made.secret.encode()).digest()
    assert made.secret not in str(run(database_url, "SELECT t::text FROM shares t"))


def test_a_comparison_is_shared_with_or_without_names(people: People) -> None:  # noqa: F811
    """In its order, with its numbers."""
    ann = player(people, "Secret Ann")
    ids = [anonymous(people, player_ids=[ann]) for _ in range(2)]
    bare = read(people, share(people, *ids[::-1]).secret)
    assert [one.job.job_id for one in bare.jobs] == ids[::-1]
    assert bare.compared.metrics == people.compare(*ids[::-1]).metrics
    assert b"Secret" not in bare.SerializeToString()
    assert ann.encode() not in bare.SerializeToString()
    named = read(people, share(people, *ids, with_names=True).secret)
    assert named.compared == people.compare(*ids)
    assert [(one.title, list(one.player_names)) for one in named.jobs] == [("Secret title", ["Secret Ann"])] * 2


def test_a_job_that_shows_the_player_is_shared_only_with_names(people: People) -> None:  # noqa: F811
    """A job that is not done is not shared at all."""
    job_id = people.analysed({})
    assert refused(partial(share, people, job_id))[:2] == ("FAILED_PRECONDITION", "JOB_NOT_ANONYMOUS")
    assert share(people, job_id, with_names=True).share.with_names
    waiting = people.created()
    assert refused(partial(share, people, waiting, with_names=True))[:2] == ("FAILED_PRECONDITION", "JOB_NOT_DONE")


@pytest.mark.parametrize("how", ["revoked", "expired", "job deleted", "job hidden", "session deleted", "retried"])
def test_a_share_that_has_ended_reads_not_found(people: People, database_url: str, how: str) -> None:  # noqa: F811
    """Like a secret that never was."""
    job_id = anonymous(people)
    made = share(people, job_id)
    read(people, made.secret)
    match how:
        case "revoked":
            revoke(people, made.share.share_id)
            assert refused(partial(revoke, people, made.share.share_id)) == GONE
        case "expired":
            run(database_url, "UPDATE shares SET expires_at = now()")
            assert listed(people) == []
        case "job deleted":
            people.jobs.DeleteJob(job_pb2.DeleteJobRequest(job_id=job_id), metadata=people.coach)
        case "job hidden":
            people.jobs.DeleteJob(job_pb2.DeleteJobRequest(job_id=job_id, undoable=True), metadata=people.coach)
        case "session deleted":
            people.delete(people.job(job_id).session_id)
        case "retried":
            run(database_url, "UPDATE video_analysis_jobs SET status = 'queued'")
    assert refused(partial(read, people, made.secret)) == GONE
    for secret in ("", "x", made.secret[:-1], "\0"):
        assert refused(partial(read, people, secret))[0] == "NOT_FOUND"


async def test_the_row_of_an_expired_share_is_deleted(people: People, database_url: str) -> None:  # noqa: F811
    """By the same task that deletes tombstones."""
    kept = share(people, anonymous(people)).share.share_id
    share(people, anonymous(people))
    run(database_url, "UPDATE shares SET expires_at = now() WHERE id <> %s", kept)
    database = Database(database_url, 1)
    await retention.purge(database, 86400.0)
    await database.close()
    assert run(database_url, "SELECT id::text FROM shares") == [(kept,)]


def test_a_repeated_request_id_makes_one_share_with_a_new_secret(people: People) -> None:  # noqa: F811
    """The lost answer's secret ends. Other content is refused, and ends nothing."""
    job_id, same = anonymous(people), str(uuid.uuid4())
    first, second = (share(people, job_id, request_id=same) for _ in range(2))
    assert first.share == second.share
    assert refused(partial(read, people, first.secret)) == GONE
    other = partial(share, people, job_id, request_id=same, with_names=True)
    assert refused(other)[:2] == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
    assert read(people, second.secret).jobs
    assert listed(people) == [second.share]


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("job_ids", {"job_ids": []}),
        ("job_ids", {"job_ids": ["same", "same"]}),
        ("job_ids", {"job_ids": ["x"] * 21}),
        ("valid_for", {"valid_for": Duration(seconds=59)}),
        ("valid_for", {"valid_for": Duration(seconds=90 * 86400 + 1)}),
        ("request_id", {"request_id": "again"}),
    ],
)
def test_an_odd_request_is_refused_and_named(people: People, field: str, fields: dict[str, Any]) -> None:  # noqa: F811
    """Nothing is shared."""
    wanted = {"job_ids": [anonymous(people)]} | fields
    code, _, sentence = refused(partial(share, people, *wanted.pop("job_ids"), **wanted))
    assert (code, sentence.partition(":")[0]) == ("INVALID_ARGUMENT", field)
    assert listed(people) == []


def test_jobs_without_a_common_player_are_not_shared_together(people: People) -> None:  # noqa: F811
    """As CompareJobs."""
    ids = [anonymous(people, player_ids=[name]) for name in ("a", "b")]
    assert refused(partial(share, people, *ids))[:2] == ("INVALID_ARGUMENT", "INVALID_FIELD")


def test_shares_are_the_owners(people: People) -> None:  # noqa: F811
    """Another coach neither makes, sees nor ends one; a superuser does."""
    job_id = anonymous(people)
    made = share(people, job_id).share
    stranger, root = people.laptop.person("coach-2"), people.laptop.person("root", role="superuser")
    request = share_pb2.CreateShareRequest(job_ids=[job_id])
    assert refused(lambda: people.shares.CreateShare(request, metadata=stranger))[0] == "PERMISSION_DENIED"
    assert refused(partial(revoke, people, made.share_id, stranger))[0] == "PERMISSION_DENIED"
    assert (listed(people, stranger), listed(people, root)) == ([], [made])
    assert people.shares.CreateShare(request, metadata=root).share.owner_id == "coach-1"
    revoke(people, made.share_id, root)
    assert made not in listed(people)


def test_an_owner_has_a_bounded_number_of_shares(people: People, database_url: str) -> None:  # noqa: F811
    """The sentence says what to do."""
    job_id = anonymous(people)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO shares (owner_type, owner_id, created_by, secret_hash, job_ids, with_names, expires_at)"
            " SELECT 'coach', 'coach-1', 'coach-1', sha256(n::text::bytea), '{}', false, now() + interval '1 day'"
            " FROM generate_series(1, 1000) n"
        )
    assert "revoke some" in refused(partial(share, people, job_id))[2]
