"""Search in sessions and jobs, through a real `jobs` on a real PostgreSQL."""

from datetime import UTC
from functools import partial
from typing import Any, cast

import psycopg
import pytest
from google.protobuf import json_format, struct_pb2
from google.protobuf.timestamp_pb2 import Timestamp

from crease.analysis.v1 import launch_pb2
from crease.jobs.v1 import intake_pb2, job_pb2, library_pb2, player_pb2, session_pb2
from services.auth import Person
from services.jobs.rpc.library_service import LibraryService
from services.jobs.store.database import Database
from services.serving import Call, Context, call
from testing.servers.programs import lease
from tests.integration.jobs.test_people import People, database_url, people, refused, run  # noqa: F401 (fixtures)

BOWLING = session_pb2.DISCIPLINE_BOWLING


def sessions(to: People, size: int = 0, token: str = "", metadata: Any = None, **wanted: Any) -> Any:
    request = library_pb2.SearchSessionsRequest(
        filter=library_pb2.LibraryFilter(**wanted), page_size=size, page_token=token
    )
    return to.library.SearchSessions(request, metadata=metadata or to.coach)


def jobs(to: People, metadata: Any = None, **fields: Any) -> library_pb2.SearchJobsResponse:
    return to.library.SearchJobs(library_pb2.SearchJobsRequest(**fields), metadata=metadata or to.coach)


def titles(to: People, **wanted: Any) -> set[str]:
    """The titles of the sessions and, which must be the same, of the jobs that are found: each session has one job."""
    found = [entry.session.title for entry in sessions(to, **wanted).sessions]
    of_jobs = [entry.session.title for entry in jobs(to, filter=library_pb2.LibraryFilter(**wanted)).jobs]
    assert sorted(found) == sorted(of_jobs)
    return set(found)


def player(to: People, name: str) -> str:
    return to.players.CreatePlayer(player_pb2.CreatePlayerRequest(name=name), metadata=to.coach).player_id


def reported(to: People, findings: dict[str, Any], *artifacts: str, **session: Any) -> str:
    """A done job with these findings and artifacts."""
    to.queued(session_id=to.session(**session).session_id)
    [launch] = to.open()
    to.confirm(launch)
    secret = to.start(launch).lease
    parts = {"pose": {}, "metrics": {}, "findings": findings, "report": {}}
    for stage in (job_pb2.STAGE_QUICK, job_pb2.STAGE_DEEP):
        request = launch_pb2.SubmitResultRequest(
            job_id=launch.job_id,
            launch_no=launch.launch_no,
            stage=stage,
            results=json_format.ParseDict(parts, struct_pb2.Struct()),
            artifacts=[job_pb2.Artifact(name=name) for name in artifacts],
        )
        to.launches.SubmitResult(request, metadata=lease(secret))
    return launch.job_id


def test_an_entry_has_what_a_list_shows(people: People, database_url: str) -> None:  # noqa: F811
    """Of a session: its state, its newest report with level and picture, and how many jobs; of a job: the same."""
    ann = player(people, "Ann")
    first = reported(people, {"overall_level": "low"}, "thumbnail.jpg", title="Nets", player_ids=[ann])
    session_id = people.job(first).session_id
    [entry] = sessions(people).sessions
    assert entry.session == people.seen(session_id)
    assert [named.name for named in entry.session.players] == ["Ann"]
    assert (entry.report_job_id, entry.level, entry.thumbnail) == (first, library_pb2.LEVEL_LOW, "thumbnail.jpg")
    assert (entry.discipline, entry.job_count) == (session_pb2.DISCIPLINE_BATTING, 1)
    done = people.job(first)
    done.ClearField("results")
    assert entry.job == done
    [(entered,)] = run(database_url, "SELECT status_since FROM video_analysis_jobs")
    assert entry.newest_time.ToDatetime(UTC) == entered
    again = people.reanalyze(first, discipline="DISCIPLINE_BOWLING").job_id
    [entry] = sessions(people).sessions
    assert (entry.job.job_id, entry.report_job_id, entry.level) == (again, first, library_pb2.LEVEL_LOW)
    assert (entry.session.status, entry.job_count) == (session_pb2.SESSION_STATUS_UPLOADED, 2)
    newer, older = jobs(people).jobs
    assert (older.job, older.session, older.level, older.thumbnail) == (
        done, entry.session, library_pb2.LEVEL_LOW, "thumbnail.jpg",
    )  # fmt: skip
    assert (newer.job.job_id, newer.level, newer.thumbnail) == (again, library_pb2.LEVEL_UNSPECIFIED, "")
    assert (newer.discipline, older.discipline) == (BOWLING, session_pb2.DISCIPLINE_BATTING)


def test_a_session_without_a_job_is_found_too(people: People) -> None:  # noqa: F811
    """Without job, report, level and picture; its newest time is its own."""
    made = people.session(title="Nets")
    [entry] = sessions(people).sessions
    bare = library_pb2.SessionEntry(session=made, discipline=made.discipline, newest_time=made.created_at)
    assert entry == bare


@pytest.mark.parametrize(
    ("findings", "level"),
    [
        ({"overall_level": "high", "not_assessed_reason": None}, "LEVEL_HIGH"),
        ({"overall_level": "medium"}, "LEVEL_MEDIUM"),
        ({"overall_level": None, "not_assessed_reason": "No action"}, "LEVEL_NOT_ASSESSED"),
        ({}, "LEVEL_UNSPECIFIED"),
        ({"overall_level": 7}, "LEVEL_UNSPECIFIED"),
        ({"overall_level": "huge"}, "LEVEL_UNSPECIFIED"),
    ],
)
def test_the_level_is_that_of_the_result(people: People, database_url: str, findings: Any, level: str) -> None:  # noqa: F811
    """Also of results from before the column, and of a row that holds anything else."""
    reported(people, findings)
    assert library_pb2.Level.Name(jobs(people).jobs[0].level) == level
    run(database_url, "UPDATE video_analysis_jobs SET level = ''")
    assert library_pb2.Level.Name(sessions(people).sessions[0].level) == level
    run(database_url, "UPDATE video_analysis_jobs SET results = '[1]'")
    assert jobs(people).jobs[0].level == library_pb2.LEVEL_UNSPECIFIED


def test_a_text_is_found_in_title_notes_and_names(people: People) -> None:  # noqa: F811
    """In capital or small letters; characters of patterns stand for themselves."""
    ann = player(people, "Ann Émery")
    people.created(session_id=people.session(title="Nets A", player_ids=[ann]).session_id)
    people.created(session_id=people.session(title="Match B", notes="Left 100% sore", player_ids=["Bo"]).session_id)
    people.created(session_id=people.session(title="C_d").session_id)
    assert titles(people, text="nETS") == {"Nets A"}
    assert titles(people, text="ÉMERY") == {"Nets A"}
    assert titles(people, text="bo") == {"Match B"}
    assert titles(people, text="100%") == {"Match B"}
    assert titles(people, text="_") == {"C_d"}
    assert titles(people, text="%") == {"Match B"}
    assert titles(people, text="  ") == {"Nets A", "Match B", "C_d"}
    assert titles(people, text="/") == titles(people, text="\\") == titles(people, text="'") == set()


def test_a_filter_selects_by_player_discipline_and_time(people: People, database_url: str) -> None:  # noqa: F811
    """All together. The discipline is that of the newest report, where a coach corrected it."""
    ann = player(people, "Ann")
    made = [
        people.session(title="1", player_ids=[ann], discipline="DISCIPLINE_BOWLING"),
        people.session(title="2", player_ids=[ann, "Bo"]),
        people.session(title="3", player_ids=["Bo"]),
    ]
    for number, session in enumerate(made):
        people.created(session_id=session.session_id)
        run(database_url, "UPDATE video_sessions SET created_at = %s::timestamptz WHERE id = %s",
            f"2026-0{number + 1}-01T00:00Z", session.session_id)  # fmt: skip
    run(database_url, "UPDATE video_analysis_jobs job SET created_at = session.created_at"
                      " FROM video_sessions session WHERE session.id = session_id")  # fmt: skip
    assert titles(people, player_id=ann) == {"1", "2"}
    assert titles(people, player_id="Bo") == {"2", "3"}
    assert titles(people, discipline="DISCIPLINE_BOWLING") == {"1"}
    february, march = Timestamp(), Timestamp()
    february.FromJsonString("2026-02-01T00:00:00Z")
    march.FromJsonString("2026-03-01T00:00:00Z")
    assert titles(people, created_from=february) == {"2", "3"}
    assert titles(people, created_before=march) == {"1", "2"}
    assert titles(people, created_from=february, created_before=march, player_id=ann, text="2") == {"2"}
    run(database_url, "UPDATE video_analysis_jobs SET discipline = 'bowling', results_stage = 'deep'"
                      " WHERE session_id = %s", made[1].session_id)  # fmt: skip
    assert titles(people, discipline="DISCIPLINE_BOWLING") == {"1", "2"}
    assert titles(people, discipline="DISCIPLINE_BATTING") == {"3"}


def test_pages_hold_each_session_once_while_others_are_made(people: People) -> None:  # noqa: F811
    """A token belongs to its filter and its person."""
    made = [people.session(title=f"Nets {number}").session_id for number in range(5)]
    found: list[str] = []
    token = ""
    while True:
        page = sessions(people, 2, token, text="nets")
        found += [entry.session.session_id for entry in page.sessions]
        token = page.next_page_token
        people.update(made[0], title="Nets again")
        people.session(title="Nets later")
        if not token:
            break
    assert found == made[::-1]
    token = sessions(people, 2, text="nets").next_page_token
    assert refused(partial(sessions, people, 2, token))[0] == "INVALID_ARGUMENT"
    stranger = people.laptop.person("coach-2")
    assert refused(partial(sessions, people, 2, token, stranger, text="nets"))[0] == "INVALID_ARGUMENT"
    assert refused(partial(sessions, people, -1))[0] == "INVALID_ARGUMENT"


def test_a_job_is_found_by_the_beginning_of_its_id(people: People, database_url: str) -> None:  # noqa: F811
    """With or without hyphens, in any letters; every other text is refused."""
    for key in ("3f2a91c0-aaaa-4000-8000-000000000001", "3f2a91c0-bbbb-4000-8000-000000000002"):
        run(database_url, "UPDATE video_analysis_jobs SET id = %s WHERE id = %s", key, people.created())

    def count(prefix: str) -> int:
        return len(jobs(people, id_prefix=prefix).jobs)

    assert [count(text) for text in ("3f2a", "3F2A91C0-A", "3f2a91c0bbbb", "3f2b")] == [2, 1, 1, 0]
    [found] = jobs(people, id_prefix="3f2a91c0-bbbb-4000-8000-000000000002").jobs
    assert found.job.job_id.endswith("2")
    for odd in ("3f2", "xyz1", "3f2a'", "f" * 33):
        assert refused(partial(jobs, people, id_prefix=odd))[:2] == ("INVALID_ARGUMENT", "INVALID_FIELD")
    assert len(jobs(people, people.laptop.person("coach-2"), id_prefix="3f2a").jobs) == 0


def test_jobs_are_found_by_their_statuses(people: People) -> None:  # noqa: F811
    """Several at once."""
    waiting, queued = people.created(), people.queued()
    failed = people.created()
    people.intake.FailUpload(intake_pb2.FailUploadRequest(job_id=failed, failure_code="EMPTY"), metadata=people.upload)

    def found(*statuses: str) -> set[str]:
        return {entry.job.job_id for entry in jobs(people, statuses=statuses).jobs}

    assert found("JOB_STATUS_QUEUED") == {queued}
    assert found("JOB_STATUS_QUEUED", "JOB_STATUS_AWAITING_UPLOAD") == {queued, waiting}
    assert found() == found("JOB_STATUS_UNSPECIFIED") == {waiting, queued, failed}
    assert refused(partial(jobs, people, statuses=[99]))[0] == "INVALID_ARGUMENT"


def test_what_is_deleted_or_another_owners_is_not_found(people: People) -> None:  # noqa: F811
    """An organisation's sessions are found by its people, and everything by a superuser."""
    kept = people.created(session_id=people.session(title="Nets").session_id)
    gone = people.job(people.created(session_id=people.session(title="Nets").session_id)).session_id
    people.delete(gone)
    boss = people.laptop.person("boss", role="org_pro", organisation_id="o-1")
    people.sessions.CreateSession(session_pb2.CreateSessionRequest(title="Nets"), metadata=boss)
    second = people.laptop.person("second", role="org_pro", organisation_id="o-1")
    root = people.laptop.person("root", role="superuser")
    assert [entry.job.job_id for entry in jobs(people).jobs] == [kept]
    assert [entry.job.job_id for entry in jobs(people, root).jobs] == [kept]
    assert len(jobs(people, second).jobs) == 0
    counts = [len(sessions(people, metadata=caller, text="nets").sessions) for caller in (people.coach, second, root)]
    assert counts == [1, 1, 2]


@pytest.mark.parametrize(
    ("field", "wanted"),
    [
        ("filter.text", {"text": "x" * 101}),
        ("filter.text", {"text": "\0"}),
        ("filter.player_id", {"player_id": "x" * 101}),
        ("filter.discipline", {"discipline": 99}),
        ("filter.created_from", {"created_from": Timestamp(seconds=10**15)}),
    ],
)
def test_an_odd_filter_is_refused_and_named(people: People, field: str, wanted: dict[str, Any]) -> None:  # noqa: F811
    """By both searches."""
    searches = (partial(sessions, people, **wanted), partial(jobs, people, filter=library_pb2.LibraryFilter(**wanted)))
    for search in searches:
        code, _, sentence = refused(search)
        assert (code, sentence.partition(":")[0]) == ("INVALID_ARGUMENT", field)


async def test_a_page_takes_as_many_queries_for_one_row_as_for_two_hundred(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of sessions and two of jobs: nothing is read row by row."""
    run(
        empty,
        "WITH session AS (INSERT INTO video_sessions (owner_type, owner_id, created_by, title)"
        " SELECT 'coach', 'coach-1', 'coach-1', 'Nets' FROM generate_series(1, 200) RETURNING id)"
        " INSERT INTO video_analysis_jobs (session_id, s3_bucket, s3_key, status, progress_pct, results_stage)"
        " SELECT id, 'videos', 'k', 'done', 100, 'deep' FROM session",
    )
    sent: list[str] = []
    execute = psycopg.AsyncClientCursor.execute

    async def record(self: Any, query: str, *args: Any, **options: Any) -> Any:
        sent.append(query)
        return await execute(self, query, *args, **options)

    monkeypatch.setattr(psycopg.AsyncClientCursor, "execute", record)
    call.set(Call("", Person("coach-1", "coach_pro_plus"), {}))
    database = Database(empty, 1)
    service, context = LibraryService(database), cast("Context", None)
    try:
        for size in (1, 200):
            found = await service.SearchSessions(library_pb2.SearchSessionsRequest(page_size=size), context)
            of_jobs = await service.SearchJobs(library_pb2.SearchJobsRequest(page_size=size), context)
            assert (len(found.sessions), len(of_jobs.jobs), len(sent)) == (size, size, 4)
            sent.clear()
    finally:
        await database.close()
