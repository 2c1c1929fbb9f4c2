"""After a round: what must hold, by the harness's own SQL and S3 listing, and never by the product's counts."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from crease.events.v1.event_pb2 import Event
from testing.chaos.stack import Stack
from testing.chaos.watching import Size, per_job
from testing.servers.product import BUCKET

# Rows by SQL that must be none: each statement names what it finds.
NONE = {
    "jobs without an end": """
        SELECT id, status, not_before - now() AS waits, cancel_requested_at IS NOT NULL AS cancelling,
               launch.launch_no, launch.cluster, launch.started_at, launch.lease_expires_at - now() AS leased
        FROM video_analysis_jobs AS job LEFT JOIN launches AS launch ON job_id = id AND ended_at IS NULL
        WHERE status NOT IN ('done', 'failed', 'cancelled')""",
    "launches without an end": "SELECT job_id, launch_no, cluster FROM launches WHERE ended_at IS NULL",
    "launches out of order": """
        SELECT job.id, job.launch_count, count(launch.*) FROM video_analysis_jobs AS job
        LEFT JOIN launches AS launch ON launch.job_id = job.id
        GROUP BY job.id
        HAVING job.launch_count <> count(launch.*) OR job.launch_count <> coalesce(max(launch_no), 0)""",
    "done jobs without exactly one successful launch": """
        SELECT job.id, count(launch.*) FROM video_analysis_jobs AS job
        LEFT JOIN launches AS launch ON launch.job_id = job.id AND launch.ending = 'succeeded'
        GROUP BY job.id HAVING count(launch.*) <> CASE WHEN job.status = 'done' THEN 1 ELSE 0 END""",
    "done jobs without results": """
        SELECT id FROM video_analysis_jobs
        WHERE status = 'done' AND deleted_at IS NULL AND (results IS NULL OR results_stage <> 'deep')""",
    "requests with several jobs": """
        SELECT request_id, count(*) FROM video_analysis_jobs WHERE request_id IS NOT NULL
        GROUP BY request_id HAVING count(*) > 1""",
    "jobs with other than one end in the outbox": """
        SELECT job_id, count(*) FROM events WHERE to_status = 'done' GROUP BY job_id HAVING count(*) <> 1""",
    "events that do not follow one another": """
        SELECT job_id, id, from_status, before FROM (
            SELECT job_id, id, from_status, lag(to_status) OVER (PARTITION BY job_id ORDER BY xid, id) AS before
            FROM events) AS trail
        WHERE from_status IS DISTINCT FROM before""",
    "jobs that their last event contradicts": """
        SELECT job.id, job.status, trail.last FROM video_analysis_jobs AS job LEFT JOIN (
            SELECT DISTINCT ON (job_id) job_id, to_status AS last FROM events ORDER BY job_id, xid DESC, id DESC
        ) AS trail ON trail.job_id = job.id
        WHERE trail.last IS DISTINCT FROM job.status::text""",
}
# Makes every cleanup due now: the waiting times of the product are longer than a round.
CLEANUPS_DUE = "UPDATE video_analysis_jobs SET sweep_at = now() WHERE sweep_at IS NOT NULL"
CLEANUPS_LEFT = "SELECT count(*) FROM video_analysis_jobs WHERE sweep_at <= now()"
# Growth of a process over a round that is not a leak.
RSS_MIB, DESCRIPTORS = 60.0, 60
LINES_PER_LIFE = 120


def rows(stack: Stack) -> list[str]:
    """Violations of the statements above."""
    return [f"{name}: {len(found)}, {found[:3]}" for name, sql in NONE.items() if (found := stack.sql(sql))]


def lives(stack: Stack, known: Iterable[str], requests: Mapping[str, str]) -> list[str]:
    """Each job that a client was told of exists, under the request that made it."""
    stored = {str(job_id): str(request_id) for job_id, request_id in stack.sql(_JOBS)}
    lost = [job_id for job_id in known if job_id not in stored]
    moved = [request_id for request_id, job_id in requests.items() if stored.get(job_id) != request_id]
    return [f"{name}: {len(found)}, {found[:3]}" for name, found in (("jobs lost", lost), ("requests", moved)) if found]


_JOBS = "SELECT id, request_id FROM video_analysis_jobs"


def results(stack: Stack, submitted: Mapping[str, set[str]]) -> list[str]:
    """Each result is one that an analyzer submitted for that job, and a done job's is its successful launch's."""
    wrong = []
    for job_id, marker, launch_no in stack.sql(_RESULTS):
        launch = str(marker).split("/")[1] if "/" in str(marker) else ""
        if marker not in submitted.get(str(job_id), set()) or (launch_no is not None and launch != str(launch_no)):
            wrong.append((str(job_id), marker, launch_no))
    return [f"stale or foreign results: {len(wrong)}, {wrong[:3]}"] if wrong else []


_RESULTS = """
    SELECT job.id, job.results #>> '{pose,pose_summary,marker}', launch.launch_no FROM video_analysis_jobs AS job
    LEFT JOIN launches AS launch ON launch.job_id = job.id AND launch.ending = 'succeeded'
    WHERE job.results IS NOT NULL
"""


def events(stack: Stack, readers: Sequence[Sequence[Event]]) -> list[str]:
    """Each reader that came back after every break has each event of each job, once and in order."""
    stored: dict[str, list[str]] = {}
    for job_id, event_id in stack.sql("SELECT job_id, xid || '-' || id FROM events ORDER BY xid, id"):
        stored.setdefault(str(job_id), []).append(str(event_id))
    wrong = []
    for number, read in enumerate(readers):
        got = per_job(read)
        # A reader begins with the first event after its first call.
        since = {job_id for job_id, ids in got.items() if ids[0] == stored.get(job_id, [""])[0]}
        wrong += [
            (number, job_id, len(got[job_id]), len(stored[job_id])) for job_id in since if got[job_id] != stored[job_id]
        ]
        wrong += [(number, job_id, 0, len(ids)) for job_id, ids in list(stored.items())[20:] if job_id not in got]
    return [f"events lost, doubled or out of order for a reader: {len(wrong)}, {wrong[:3]}"] if wrong else []


def messages(stack: Stack) -> list[str]:
    """With a relay: each job that was queued has its message, at least once, and its row names one."""
    if stack.queue is None:
        return []
    stack.queue.receive()
    queued = stack.sql("SELECT xid || '-' || id FROM events WHERE to_status = 'queued' ORDER BY xid, id")
    missing = [event_id for (event_id,) in queued if event_id not in stack.queue.received]
    wrong = {"events without a message": missing, "jobs without the id of a message": stack.sql(_WITHOUT_MESSAGE)}
    return [f"{name}: {len(found)}, {found[:3]}" for name, found in wrong.items() if found]


_WITHOUT_MESSAGE = """
    SELECT id FROM video_analysis_jobs WHERE deleted_at IS NULL AND coalesce(sqs_message_id, '') = ''
    AND id IN (SELECT job_id FROM events WHERE to_status = 'queued')
"""


def sessions(stack: Stack, status_of: Mapping[str, str]) -> list[str]:
    """`status_of`: what the product says of each session. It must follow from its jobs."""
    expected: dict[str, str] = {}
    for session_id, status in stack.sql(_SESSION_JOBS):
        best = expected.get(str(session_id), "pending")
        expected[str(session_id)] = min(best, _READS.get(str(status), "pending"), key=_ORDER.index)
    wrong = {
        key: (found, expected.get(key)) for key, found in status_of.items() if found != expected.get(key, "pending")
    }
    return [f"sessions that disagree with their jobs: {len(wrong)}, {list(wrong.items())[:3]}"] if wrong else []


_SESSION_JOBS = "SELECT session_id, status FROM video_analysis_jobs WHERE deleted_at IS NULL"
_READS = {"done": "ready", "failed": "failed"}
# Of final jobs, any done one decides, then any failed one.
_ORDER = ("ready", "failed", "pending")


def objects(stack: Stack) -> list[str]:
    """Every object has a row that names it, and every row that names an object has it. No upload is unfinished."""
    named, must = set[str](), set[str]()
    for key, etag, deleted_at, artifacts in stack.sql(_NAMED):
        if deleted_at is None and etag:
            must |= {str(key), *(str(one["s3_key"]) for one in artifacts)}
    named |= must
    pages = stack.s3.client().get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    stored = {one["Key"] for page in pages for one in page.get("Contents", ())}
    unfinished = {one["Key"] for one in stack.s3.client().list_multipart_uploads(Bucket=BUCKET).get("Uploads", ())}
    wrong = {
        "objects without a row": stored - named,
        "rows without their object": must - stored,
        "unfinished uploads": unfinished,
    }
    return [f"{name}: {len(found)} of {len(stored)}, {sorted(found)[:3]}" for name, found in wrong.items() if found]


_NAMED = "SELECT s3_key, etag, deleted_at, artifacts FROM video_analysis_jobs"


def growth(before: Mapping[str, Size], after: Mapping[str, Size]) -> list[str]:
    """Memory and descriptors of each program, against those before the faults."""
    return [
        f"{name} grew: {before[name]} to {size}"
        for name, size in after.items()
        if name in before
        and (size.rss_mib > before[name].rss_mib + RSS_MIB or size.descriptors > before[name].descriptors + DESCRIPTORS)
    ]


def log_lines(folder: Path) -> dict[str, int]:
    return {log.stem: sum(1 for _ in log.open("rb")) for log in sorted(folder.glob("*.log"))}
