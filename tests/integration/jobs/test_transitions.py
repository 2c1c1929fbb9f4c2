"""Every status against every RPC: where a call moves a job, and which calls are refused; one test for each cell.

A status is set by hand, under a launch whose pod holds a living lease, so that nothing but the status decides.
"""

from collections.abc import Iterator
from typing import Any

import grpc
import psycopg
import pytest
from psycopg.rows import dict_row

from crease.analysis.v1 import launch_pb2
from crease.jobs.v1 import job_pb2
from services.jobs.domain import states
from services.jobs.domain.states import Status
from testing.servers.programs import Laptop, Program, lease
from tests.integration.jobs import filled
from tests.integration.jobs.test_lifecycle import RESULTS, Road

QUICK, DEEP = job_pb2.STAGE_QUICK, job_pb2.STAGE_DEEP
# name of a column: what is set by hand
STATUSES: dict[str, dict[str, Any]] = {
    "awaiting_upload": {"stage": "AWAITING_UPLOAD", "progress_pct": 0},
    "queued": {"stage": "QUEUED", "progress_pct": 0},
    "deep_queued": {"status": "queued", "stage": "DEEP_QUEUED", "progress_pct": 50, "results_stage": "quick"},
    "quick_running": {"stage": "QUICK", "progress_pct": 1},
    "quick_done": {"stage": "QUICK_DONE", "progress_pct": 50, "results_stage": "quick"},
    "deep_running": {"stage": "DEEP", "progress_pct": 51, "results_stage": "quick"},
    "done": {"stage": "DONE", "progress_pct": 100, "results_stage": "deep"},
    "failed": {"stage": "FAILED", "progress_pct": 25, "failure_code": "EMPTY"},
    "cancelled": {"stage": "CANCELLED", "progress_pct": 25},
}

# The outcome of a call for a job in each status. A status: the job moves to it. `-`: the call succeeds and the row is
# unchanged. `~`: the call succeeds and the status is unchanged. FP, PD: the call returns FAILED_PRECONDITION or
# PERMISSION_DENIED, and nothing changes.
TABLE = """
#                        awaiting queued        deep_queued   quick_running quick_done    deep_running  done  failed cancelled
ConfirmUpload            queued   -             -             -             -             -             -     queued FP
FailUpload               failed   FP            FP            FP            FP            FP            FP    ~      FP
StartLaunch              FP       quick_running deep_running  -             -             -             FP    FP     FP
Heartbeat:quick          PD       PD            PD            ~             -             -             PD    PD     PD
Heartbeat:deep           PD       PD            PD            -             deep_running  ~             PD    PD     PD
SubmitResult:quick       PD       PD            -             quick_done    -             -             PD    PD     PD
SubmitResult:quick_only  PD       PD            -             done          -             -             PD    PD     PD
SubmitResult:deep        PD       PD            PD            FP            done          done          -     PD     PD
FailLaunch:bad_input     PD       PD            PD            failed        failed        failed        PD    PD     PD
FailLaunch:disruption    PD       PD            PD            queued        queued        queued        PD    PD     PD
EndLaunch:bad_input      -        failed        failed        failed        failed        failed        -     -      -
EndLaunch:disruption     -        ~             ~             queued        queued        queued        -     -      -
EndLaunch:cancelled      FP       FP            FP            FP            FP            FP            FP    FP     FP
CancelJob                ~        ~             ~             ~             ~             ~             FP    ~      -
RetryJob                 FP       FP            FP            FP            FP            FP            FP    queued FP
DeleteSession            cancelled FP           FP            FP            FP            FP            ~     ~      ~
DeleteJob                cancelled FP           FP            FP            FP            FP            ~     ~      ~
RecordMultipart          FP       FP            FP            FP            FP            FP            FP    FP     FP
AbandonUpload            FP       FP            FP            FP            FP            FP            FP    FP     FP
OpenLaunches             -        ~             ~             -             -             -             -     -      -
"""  # noqa: E501
SERVICE = {
    "ConfirmUpload": "IntakeService",
    "FailUpload": "IntakeService",
    "CancelJob": "JobService",
    "RetryJob": "JobService",
    "DeleteSession": "SessionService",
    "DeleteJob": "JobService",
    "RecordMultipart": "IntakeService",
    "AbandonUpload": "IntakeService",
}
# The fields of each variant of a call.
SAYS: dict[str, dict[str, Any]] = {
    "quick": {"stage": QUICK},
    "quick_only": {"stage": QUICK},
    "deep": {"stage": DEEP},
    "bad_input": {"ending": launch_pb2.ENDING_BAD_INPUT},
    "disruption": {"ending": launch_pb2.ENDING_DISRUPTION},
    "cancelled": {"ending": launch_pb2.ENDING_CANCELLED},
    "": {},
}
CODES = {"FP": "FAILED_PRECONDITION", "PD": "PERMISSION_DENIED"}
# These move no job, whatever its status.
READING = {
    "SessionService/CreateSession",
    "SessionService/GetSession",
    "SessionService/ListSessions",
    "SessionService/UpdateSession",
    "JobService/GetJob",
    "JobService/ListJobs",
    "JobService/ExplainJob",
    "JobService/ReanalyzeJob",
    # Of what is not deleted.
    "SessionService/UndeleteSession",
    "JobService/UndeleteJob",
    "LibraryService/SearchSessions",
    "LibraryService/SearchJobs",
    "IntakeService/CreateJob",
    "IntakeService/GetUpload",
    "IntakeService/AuthorizeLaunch",
    "LaunchService/ListLaunches",
    "LaunchService/ConfirmLaunch",
}
# Changes a whole cluster; superusers call it.
FORGETTING = {"JobService/ForgetCluster"}
# Reads done jobs only.
COMPARING = {"JobService/CompareJobs"}
# Concerns the objects in S3, of no particular job.
SWEEPING = {rpc for rpc in filled.RPCS if rpc.startswith(("CleanupService/", "SweepService/"))}
# Concern rows beside the jobs: players, shares, subscriptions.
BESIDE = {rpc for rpc in filled.RPCS if rpc.startswith(("PlayerService/", "ShareService/"))} | {
    "IntakeService/AuthorizeShare",
    "LibraryService/GetTrends",
    "EventService/AcknowledgeEvents",
    "EventService/DeleteSubscription",
}
# Streams, which outlast a test.
WATCHING = {"JobService/WatchJob", "EventService/WatchEvents"}
# Columns that triggers write at each update.
BOOKKEEPING = ("version", "updated_at", "launched")


def cells() -> Iterator[tuple[str, str, str]]:
    """(call, status, outcome)."""
    for line in TABLE.strip().splitlines()[1:]:
        name, *outcomes = line.split()
        for status, outcome in zip(STATUSES, outcomes, strict=True):
            yield name, status, outcome


def rpc_of(name: str) -> str:
    method = name.partition(":")[0]
    return f"{SERVICE.get(method, 'LaunchService')}/{method}"


class Scene:
    """A job in one status, with a launch whose lease is valid, and every caller."""

    def __init__(self, road: Road, channel: grpc.Channel, database_url: str) -> None:
        self._road = road
        self._channel = channel
        self._database_url = database_url
        self.launch, self._lease = road.started()

    def put(self, status: str, **more: Any) -> None:
        values = {"status": status, "results_stage": None} | STATUSES[status] | more
        names = ", ".join(f"{name} = %({name})s" for name in values)
        self.run(f"UPDATE video_analysis_jobs SET {names} WHERE id = %(job_id)s", **values)  # noqa: S608

    def run(self, statement: str, **values: Any) -> list[dict[str, Any]]:
        with psycopg.connect(self._database_url, autocommit=True, row_factory=dict_row) as connection:
            cursor = connection.execute(statement, {"job_id": self.launch.job_id} | values)
            return cursor.fetchall() if cursor.description else []

    def job(self) -> dict[str, Any]:
        [row] = self.run("SELECT * FROM video_analysis_jobs WHERE id = %(job_id)s")
        return row

    def everything(self) -> list[dict[str, Any]]:
        """The job, its launches and events."""
        launches = self.run("SELECT * FROM launches WHERE job_id = %(job_id)s ORDER BY launch_no")
        return [self.job(), *launches, *self.events()]

    def events(self) -> list[dict[str, Any]]:
        return self.run("SELECT * FROM events WHERE job_id = %(job_id)s ORDER BY xid, id")

    def call(self, rpc: str, **says: Any) -> str:
        values = {
            "job_id": self.launch.job_id,
            "session_id": self.launch.session_id,
            "launch_no": self.launch.launch_no,
            "lease": self._lease,
            "cluster": "c1",
            "capacity": 10,
            "kubernetes_uid": "uid-1",
            "progress": 0.5,
            "results": RESULTS,
            "etag": "abc",
            "content_length": 10,
            "failure_code": "MISSING",
        }
        return filled.send(self._channel, rpc, filled.request(rpc, values | says), self._caller(rpc))

    def _caller(self, rpc: str) -> Any:
        service, _, method = rpc.partition("/")
        if method == "StartLaunch":
            return self._road.laptop.pod(f"analysis-{self.launch.job_id}-{self.launch.launch_no}-aaaaa", "pod-1")
        if method in ("Heartbeat", "SubmitResult", "FailLaunch"):
            return lease(self._lease)
        by_service = {"IntakeService": self._road.upload, "LaunchService": self._road.controller}
        return by_service.get(service, self._road.coach)


@pytest.fixture
def scene(shared_jobs: Program, laptop: Laptop, empty: str) -> Iterator[Scene]:
    with grpc.insecure_channel(shared_jobs.endpoint) as channel:
        yield Scene(Road(shared_jobs.endpoint, laptop), channel, empty)


def without_bookkeeping(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in BOOKKEEPING}


def test_every_rpc_is_known_to_move_jobs_or_not_to() -> None:
    """A new RPC needs its row in TABLE or its place in one of the sets."""
    moving = {rpc_of(name) for name, _, _ in cells()}
    assert filled.RPCS.keys() <= moving | READING | COMPARING | FORGETTING | SWEEPING | BESIDE | WATCHING
    assert not moving & READING


def test_the_table_agrees_with_the_drawing() -> None:
    """No cell moves a job along an arrow that states.py does not have; quick without deep takes two at once."""
    for name, status, outcome in cells():
        if outcome in states.STATUSES and name != "SubmitResult:quick_only":
            assert STATUSES[status].get("status", status) in states.SOURCES[Status(outcome)], (name, status)


@pytest.mark.parametrize(("name", "status", "outcome"), list(cells()))
def test_a_call_moves_a_job_as_the_table_says(name: str, status: str, outcome: str, scene: Scene) -> None:
    """Each arrow adds one event; a refused call changes no column."""
    if name == "OpenLaunches":
        scene.run("UPDATE launches SET ended_at = now(), ending = 'disruption' WHERE job_id = %(job_id)s")
    scene.put(status, deep_enabled=name != "SubmitResult:quick_only")
    before, row, events = scene.everything(), scene.job(), len(scene.events())
    code = scene.call(rpc_of(name), **SAYS[name.partition(":")[2]])
    after = scene.job()
    if name == "OpenLaunches":
        assert after["launch_count"] == (2 if outcome == "~" else 1)
    if outcome in CODES:
        assert (code, scene.everything()) == (CODES[outcome], before)
        return
    assert code == "OK"
    if outcome in "-~":
        assert (after["status"], len(scene.events())) == (row["status"], events)
        assert outcome == "~" or without_bookkeeping(after) == without_bookkeeping(row)
        return
    arrows = [(event["from_status"], event["to_status"]) for event in scene.events()[events:]]
    assert (after["status"], arrows[0][0], arrows[-1][1]) == (outcome, row["status"], outcome)
    assert all(source in states.SOURCES[target] for source, target in arrows)
    assert after["stage"] == states.stage(Status(outcome), after["results_stage"])


@pytest.mark.parametrize("status", STATUSES)
def test_a_call_that_only_reads_moves_no_job(status: str, scene: Scene) -> None:
    """In every status."""
    scene.put(status)
    before = scene.everything()
    codes = {rpc: scene.call(rpc) for rpc in READING}
    assert codes == dict.fromkeys(READING, "OK")
    assert scene.everything() == before
