"""Any order of calls: a model of jobs beside a real `jobs`, driven by Hypothesis as every kind of caller.

The model knows the drawing of states.py and the table of retry_policy.py, and no SQL. Only a rule makes time pass, by
an UPDATE; otherwise leases and unconfirmed launches last an hour.
"""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from psycopg.rows import dict_row

from crease.analysis.v1 import launch_pb2
from crease.jobs.v1 import intake_pb2, job_pb2, session_pb2
from services.jobs.domain import states
from services.jobs.domain.retry_policy import RULES
from services.jobs.domain.states import Status
from testing.servers.postgres import Server, clear
from testing.servers.programs import Laptop, Program, lease, running
from tests.conftest import IMPATIENT
from tests.integration.jobs.test_lifecycle import Road

MAX_JOBS = 3
RUNNING = ("quick_running", "quick_done", "deep_running")
LIVE = ("queued", *RUNNING)
FP, PD, NF = "FAILED_PRECONDITION", "PERMISSION_DENIED", "NOT_FOUND"
STAGES = {"quick": job_pb2.STAGE_QUICK, "deep": job_pb2.STAGE_DEEP}
# Retries of each ending; None: any number. `test_retry_policy.py` holds them against a table.
TRIES = {ending: rule.retries for ending, rule in RULES.items()}
PROGRESS = {
    "awaiting_upload": {0},
    "queued": {0, 50},
    "quick_running": range(1, 50),
    "quick_done": {50},
    "deep_running": range(51, 100),
    "done": {100},
    "failed": range(100),
    "cancelled": range(100),
}
WAIT_SECONDS = 60

picks = st.integers(0, MAX_JOBS - 1)
endings = st.sampled_from(sorted(TRIES))
stages = st.sampled_from(sorted(STAGES))
# Wrong calls are rare: otherwise no job would ever be done.
rarely = st.sampled_from([False, False, False, False, True])


@dataclass
class Launch:
    """As the model has it."""

    number: int
    lease: str = ""
    stale: list[str] = field(default_factory=list)
    pod: str = ""
    uid: str = ""
    ending: str = ""
    overdue: bool = False


@dataclass
class Job:
    """As the model has it; `trail` is every transition so far."""

    id: str
    session_id: str
    status: str = "awaiting_upload"
    result: str = ""
    etag: str = ""
    deep: bool = True
    launches: list[Launch] = field(default_factory=list)
    trail: list[tuple[str | None, str]] = field(default_factory=lambda: [(None, "awaiting_upload")])
    causes: Counter[str] = field(default_factory=Counter)
    # Queued by an operator, whose UPDATE keeps the progress.
    by_hand: bool = False
    # Queued again with a backoff; the model does not know its length.
    later: bool = False
    # CancelJob was called, and the launch is still open.
    cancelling: bool = False
    # Its session is deleted.
    deleted: bool = False

    @property
    def launch(self) -> Launch | None:
        return self.launches[-1] if self.launches else None

    @property
    def is_open(self) -> bool:
        return self.launch is not None and not self.launch.ending

    def go(self, to: str) -> None:
        if to != self.status:
            self.trail.append((self.status, to))
        self.status, self.by_hand = to, False

    def end(self, launch: Launch, ending: str) -> None:
        """The launch ends, and the job moves as retry_policy.py says."""
        launch.ending = ending
        if self.status not in LIVE:
            return
        tries = TRIES[ending]
        again = tries is None or self.causes[ending] < tries
        self.later = again and ending == "unknown"
        by_hand = self.by_hand and self.status == "queued" and again
        self.go("queued" if again else "failed")
        self.by_hand = by_hand


class Machine(RuleBasedStateMachine):
    """Each rule makes one caller's call and compares the answer with the model; the invariants compare all rows."""

    road: Road
    database: psycopg.Connection[dict[str, Any]]
    arrows: set[tuple[str | None, str]]

    @initialize(running=st.booleans(), stages=st.integers(0, 2))
    def begin(self, running: bool, stages: int) -> None:
        """In half of the examples one job is already running: random calls seldom get one there."""
        clear(self.database)
        self.jobs: list[Job] = []
        if running:
            self.create(deep=True)
            self.confirm_upload(number=0, etag="a")
            self.open(capacity=1)
            self.start(number=0, pod="p", right=True)
            for _ in range(stages):
                self.carry_on(number=0)

    def pick(self, number: int) -> Job:
        return self.jobs[number % len(self.jobs)]

    def has_jobs(self) -> bool:
        return bool(self.jobs)

    def has_launches(self) -> bool:
        return any(job.launches for job in self.jobs)

    def pick_launch(self, number: int, older: bool) -> tuple[Job, Launch]:
        """The newest launch of a running job, if there is one; `older`: the first launch of any job."""
        launched = [job for job in self.jobs if job.launches]
        alive = [job for job in launched if job.is_open and job.status in LIVE]
        among = alive if alive and not older else launched
        job = among[number % len(among)]
        return job, job.launches[0 if older else -1]

    @precondition(lambda self: len(self.jobs) < MAX_JOBS)
    @rule(deep=st.booleans())
    def create(self, deep: bool) -> None:
        job_id = self.road.created()
        job = Job(job_id, self.road.job(job_id).session_id, deep=deep)
        self.sql("UPDATE video_analysis_jobs SET deep_enabled = %(deep)s WHERE id = %(id)s", id=job.id, deep=deep)
        self.jobs.append(job)

    @precondition(has_jobs)
    @rule(number=picks, etag=st.sampled_from(["a", "a", "b"]))
    def confirm_upload(self, number: int, etag: str) -> None:
        job = self.pick(number)
        request = intake_pb2.ConfirmUploadRequest(job_id=job.id, etag=etag, content_length=10)
        code = self.code(self.road.intake.ConfirmUpload, request, self.road.upload)
        assert code == (NF if job.deleted else FP if job.status == "cancelled" else "OK")
        if job.status in ("awaiting_upload", "failed") and not job.deleted:
            job.result = job.result if etag == job.etag else ""
            job.etag, job.later = etag, False
            job.causes.clear()
            job.go("queued")

    @precondition(has_jobs)
    @rule(number=picks)
    def fail_upload(self, number: int) -> None:
        job = self.pick(number)
        request = intake_pb2.FailUploadRequest(job_id=job.id, failure_code="EMPTY", error_message="Nothing there")
        allowed = not job.deleted and job.status in ("awaiting_upload", "failed")
        expected = "OK" if allowed else NF if job.deleted else FP
        assert self.code(self.road.intake.FailUpload, request, self.road.upload) == expected
        if allowed:
            job.go("failed")

    @rule(capacity=st.integers(1, 3))
    def open(self, capacity: int) -> None:
        overdue = {
            job.id for job in self.jobs if job.is_open and job.launch and job.launch.overdue and not job.cancelling
        }
        ready = {job.id for job in self.jobs if job.status == "queued" and not job.is_open}
        surely = {job.id for job in self.jobs if job.id in ready and not job.later}
        offered = {launch.job_id: launch.launch_no for launch in self.road.open(capacity)}
        assert offered.keys() <= overdue | ready
        assert min(capacity, len(overdue) + len(surely)) <= len(offered) <= capacity
        for job in self.jobs:
            if job.id not in offered:
                continue
            if job.id in overdue and job.launch:
                job.launch.overdue = False
            else:
                job.launches.append(Launch(len(job.launches) + 1))
            assert offered[job.id] == len(job.launches)

    @precondition(has_launches)
    @rule(number=picks)
    def forget_offer(self, number: int) -> None:
        """The controller crashed before it confirmed its launches."""
        job, launch = self.pick_launch(number, older=False)
        statement = "UPDATE launches SET offered_at = offered_at - interval '2 hours' WHERE job_id = %(id)s"
        self.sql(statement, id=job.id)
        launch.overdue = not launch.uid and not launch.ending

    @precondition(has_launches)
    @rule(number=picks, uid=st.sampled_from(["u", "u", "v"]), older=rarely)
    def confirm_launch(self, number: int, uid: str, older: bool) -> None:
        job, launch = self.pick_launch(number, older)
        request = launch_pb2.ConfirmLaunchRequest(job_id=job.id, launch_no=launch.number, kubernetes_uid=uid)
        mine = not launch.ending and launch.uid in ("", uid)
        assert self.code(self.road.launches.ConfirmLaunch, request, self.road.controller) == ("OK" if mine else FP)
        if mine:
            launch.uid, launch.overdue = uid, False

    @precondition(has_launches)
    @rule(number=picks, pod=st.sampled_from(["p", "p", "q"]), right=st.sampled_from([True, True, True, False]))
    def start(self, number: int, pod: str, right: bool) -> None:
        job, launch = self.pick_launch(number, older=False)
        name = f"analysis-{job.id}-{launch.number if right else launch.number + 1}-aaaaa"
        request = launch_pb2.StartLaunchRequest(job_id=job.id, launch_no=launch.number)
        over = launch.ending or job.status not in LIVE or job.cancelling
        expected = PD if not right else FP if over else "OK"
        if expected == "OK" and launch.pod not in ("", pod):
            expected = PD
        metadata = self.road.laptop.pod(name, pod)
        if expected != "OK":
            assert self.code(self.road.launches.StartLaunch, request, metadata) == expected
            return
        reply = self.road.launches.StartLaunch(request, metadata=metadata, timeout=WAIT_SECONDS)
        assert reply.stage == STAGES["deep" if job.result else "quick"]
        launch.stale.append(launch.lease)
        launch.pod, launch.lease = pod, reply.lease
        if job.status == "queued":
            job.go("deep_running" if job.result else "quick_running")

    @precondition(has_launches)
    @rule(number=picks, stage=stages, progress=st.floats(-1, 2), older=rarely, stale=rarely)
    def heartbeat(self, number: int, stage: str, progress: float, older: bool, stale: bool) -> None:
        job, launch = self.pick_launch(number, older)
        request = launch_pb2.HeartbeatRequest(
            job_id=job.id, launch_no=launch.number, stage=STAGES[stage], progress=progress
        )
        held = self.holds(job, launch, stale)
        assert self.by_lease(self.road.launches.Heartbeat, request, launch, stale) == ("OK" if held else PD)
        if held and stage == "deep" and job.status == "quick_done":
            job.go("deep_running")

    @precondition(has_launches)
    @rule(number=picks, stage=stages, early=rarely, older=rarely, stale=rarely)
    def submit(self, number: int, stage: str, early: bool, older: bool, stale: bool) -> None:
        """early: more files of the deep stage follow."""
        job, launch = self.pick_launch(number, older)
        request = launch_pb2.SubmitResultRequest(job_id=job.id, launch_no=launch.number, stage=STAGES[stage])
        request.more_files = early and stage == "deep"
        for part in ("pose", "metrics", "findings", "report"):
            request.results[part] = {}
        current = self.secret(launch, stale) == launch.lease != ""
        newest = launch is job.launch and launch.ending in ("", "succeeded") and not job.cancelling
        again = current and newest and job.result == stage and (stage == "quick" or job.status == "done")
        held = self.holds(job, launch, stale)
        skips = held and not again and stage == "deep" and job.status == "quick_running"
        expected = "OK" if again else FP if skips else "OK" if held else PD
        assert self.by_lease(self.road.launches.SubmitResult, request, launch, stale) == expected
        if expected == "OK" and not again:
            self.published(job, launch, stage, early=request.more_files)

    @precondition(lambda self: any(self.is_held(job) for job in self.jobs))
    @rule(number=picks)
    def carry_on(self, number: int) -> None:
        """The analyzer submits the result of its next stage."""
        held = [job for job in self.jobs if self.is_held(job)]
        job = held[number % len(held)]
        assert job.launch is not None
        stage = "quick" if job.status == "quick_running" else "deep"
        self.road.submit(launch_pb2.Launch(job_id=job.id, launch_no=job.launch.number), job.launch.lease, STAGES[stage])
        self.published(job, job.launch, stage)

    def is_held(self, job: Job) -> bool:
        return job.launch is not None and self.holds(job, job.launch, stale=False)

    def published(self, job: Job, launch: Launch, stage: str, early: bool = False) -> None:
        job.result = stage
        if stage == "quick":
            job.go("quick_done")
        elif job.status == "quick_done":
            job.go("deep_running")
        if (stage == "deep" and not early) or not job.deep:
            job.go("done")
            launch.ending = "succeeded"

    @precondition(has_launches)
    @rule(number=picks, ending=endings, older=rarely, stale=rarely)
    def fail_launch(self, number: int, ending: str, older: bool, stale: bool) -> None:
        job, launch = self.pick_launch(number, older)
        request = launch_pb2.FailLaunchRequest(job_id=job.id, launch_no=launch.number, ending=ending_of(ending))
        held = self.holds(job, launch, stale)
        expected = PD if not held else FP if ending == "unschedulable" else "OK"
        assert self.by_lease(self.road.launches.FailLaunch, request, launch, stale) == expected
        if expected == "OK":
            self.ended(job, launch, ending)

    @precondition(has_launches)
    @rule(number=picks, ending=endings, older=rarely)
    def end_launch(self, number: int, ending: str, older: bool) -> None:
        job, launch = self.pick_launch(number, older)
        request = launch_pb2.EndLaunchRequest(job_id=job.id, launch_no=launch.number, ending=ending_of(ending))
        was_scheduled = ending == "unschedulable" and launch.lease
        refused = not launch.ending and (job.cancelling or was_scheduled)
        assert self.code(self.road.launches.EndLaunch, request, self.road.controller) == (FP if refused else "OK")
        if not launch.ending and not refused:
            self.ended(job, launch, ending)

    @precondition(has_jobs)
    @rule(number=picks)
    def cancel(self, number: int) -> None:
        """The coach cancels the job."""
        job = self.pick(number)
        expected = NF if job.deleted else FP if job.status == "done" else "OK"
        request = job_pb2.CancelJobRequest(job_id=job.id)
        assert self.code(self.road.jobs.CancelJob, request, self.road.coach) == expected
        if expected == "OK" and job.status != "cancelled":
            job.cancelling = job.is_open
            if not job.is_open:
                job.go("cancelled")

    @precondition(has_launches)
    @rule(number=picks, older=rarely)
    def prove_gone(self, number: int, older: bool) -> None:
        """The controller has deleted the Kubernetes Job and confirmed that it is gone."""
        job, launch = self.pick_launch(number, older)
        request = launch_pb2.EndLaunchRequest(
            job_id=job.id, launch_no=launch.number, ending=launch_pb2.ENDING_CANCELLED
        )
        allowed = bool(launch.ending) or job.cancelling
        assert self.code(self.road.launches.EndLaunch, request, self.road.controller) == ("OK" if allowed else FP)
        if not launch.ending and job.cancelling:
            launch.ending, job.cancelling = "cancelled", False
            job.go("cancelled")

    @precondition(has_jobs)
    @rule(number=picks)
    def retry(self, number: int) -> None:
        """The coach retries the job."""
        job = self.pick(number)
        allowed = not job.deleted and job.status == "failed" and job.etag != ""
        expected = "OK" if allowed else NF if job.deleted else FP
        request = job_pb2.RetryJobRequest(job_id=job.id)
        assert self.code(self.road.jobs.RetryJob, request, self.road.coach) == expected
        if allowed:
            job.causes.clear()
            job.later = False
            job.go("queued")

    @precondition(has_jobs)
    @rule(number=picks, really=rarely)
    def delete(self, number: int, really: bool) -> None:
        """The coach deletes a session; rarely, because every later call for it is refused."""
        job = self.pick(number)
        if not really:
            return
        expected = NF if job.deleted else FP if job.status in LIVE else "OK"
        request = session_pb2.DeleteSessionRequest(session_id=job.session_id)
        assert self.code(self.road.sessions.DeleteSession, request, self.road.coach) == expected
        if expected == "OK":
            job.deleted = True
            if job.status == "awaiting_upload":
                job.go("cancelled")

    def ended(self, job: Job, launch: Launch, ending: str) -> None:
        job.end(launch, ending)
        job.causes[ending] += 1

    @precondition(lambda self: any(job.is_open and job.launch.lease and not job.cancelling for job in self.jobs))
    @rule(number=picks)
    def lose_lease(self, number: int) -> None:
        """The pod sends no heartbeat, and its lease expires."""
        leased = [job for job in self.jobs if job.is_open and job.launch and job.launch.lease and not job.cancelling]
        job = leased[number % len(leased)]
        assert job.launch is not None
        expired = "UPDATE launches SET lease_expires_at = now() - interval '1 second' WHERE job_id = %(id)s"
        self.sql(f"{expired} AND ended_at IS NULL", id=job.id)
        ended = "SELECT 1 FROM launches WHERE job_id = %(id)s HAVING bool_and(ended_at IS NOT NULL)"
        self.wait_for(ended, id=job.id)
        self.ended(job, job.launch, "lease_lost")

    @precondition(lambda self: any(job.status == "awaiting_upload" for job in self.jobs))
    @rule(number=picks)
    def expire_upload(self, number: int) -> None:
        """The client never completes the upload."""
        waiting = [job for job in self.jobs if job.status == "awaiting_upload"]
        job = waiting[number % len(waiting)]
        aged = "UPDATE video_analysis_jobs SET created_at = created_at - interval '25 hours' WHERE id = %(id)s"
        self.sql(aged, id=job.id)
        self.wait_for("SELECT 1 FROM video_analysis_jobs WHERE id = %(id)s AND status = 'failed'", id=job.id)
        job.go("failed")

    @precondition(has_jobs)
    @rule(number=picks, to=st.sampled_from(["queued", "queued", "cancelled"]))
    def operate(self, number: int, to: str) -> None:
        """An operator changes the status by hand."""
        job = self.pick(number)
        if job.status in ("done", "cancelled") or job.deleted:
            return
        update = (
            "UPDATE video_analysis_jobs SET status = %(to)s, stage = %(stage)s, not_before = NULL WHERE id = %(id)s"
        )
        self.sql(update, id=job.id, to=to, stage=to.upper())
        job.go(to)
        job.by_hand, job.later = True, False

    @invariant()
    def the_rows_are_as_the_model_says(self) -> None:
        rows = {str(row["id"]): row for row in self.sql("SELECT * FROM video_analysis_jobs")}
        assert {job.id: job.status for job in self.jobs} == {key: row["status"] for key, row in rows.items()}
        for job in self.jobs:
            row = rows[job.id]
            assert (row["results_stage"] or "") == job.result
            assert row["launch_count"] == len(job.launches)
            assert job.by_hand or row["progress_pct"] in PROGRESS[job.status], job
            in_order(row)

    @invariant()
    def every_transition_is_drawn_and_left_one_event(self) -> None:
        trails: dict[str, list[tuple[str | None, str]]] = {job.id: [] for job in self.jobs}
        for row in self.sql("SELECT * FROM events ORDER BY xid, id"):
            trails[str(row["job_id"])].append((row["from_status"], row["to_status"]))
        assert trails == {job.id: job.trail for job in self.jobs}
        for trail in trails.values():
            assert all(source in states.SOURCES[Status(target)] for source, target in trail[1:])
            self.arrows.update(trail)

    @invariant()
    def launches_are_as_the_model_says(self) -> None:
        """At most one launch of a job is open, and every result came by a lease."""
        seen: dict[str, list[str]] = {job.id: [] for job in self.jobs}
        leased = set()
        for row in self.sql("SELECT * FROM launches ORDER BY job_id, launch_no"):
            seen[str(row["job_id"])].append(row["ending"])
            if row["lease_hash"] is not None:
                leased.add(str(row["job_id"]))
        assert seen == {job.id: [launch.ending for launch in job.launches] for job in self.jobs}
        assert all(endings.count("") <= 1 for endings in seen.values())
        assert leased >= {job.id for job in self.jobs if job.result}

    def holds(self, job: Job, launch: Launch, stale: bool) -> bool:
        current = self.secret(launch, stale) == launch.lease != ""
        return current and not launch.ending and not job.cancelling and job.status in RUNNING

    def secret(self, launch: Launch, stale: bool) -> str:
        return launch.stale[-1] if stale and launch.stale else launch.lease

    def by_lease(self, rpc: Any, request: Any, launch: Launch, stale: bool) -> str:
        return self.code(rpc, request, lease(self.secret(launch, stale) or "none"))

    def code(self, rpc: Any, request: Any, metadata: Any) -> str:
        try:
            rpc(request, metadata=metadata, timeout=WAIT_SECONDS)
        except grpc.RpcError as error:
            return str(error.code().name)
        return "OK"

    def sql(self, statement: str, **values: Any) -> list[dict[str, Any]]:
        cursor = self.database.execute(statement, values)
        return cursor.fetchall() if cursor.description else []

    def wait_for(self, statement: str, **values: Any) -> None:
        give_up = time.monotonic() + WAIT_SECONDS
        while not self.sql(statement, **values):
            assert time.monotonic() < give_up, statement
            time.sleep(0.01)


def ending_of(word: str) -> launch_pb2.Ending.ValueType:
    return launch_pb2.Ending.Value(f"ENDING_{word.upper()}")


def in_order(row: dict[str, Any]) -> None:
    """created ≤ queued, and of a job that runs or ran to its end: queued ≤ started ≤ completed."""
    moments = [row["created_at"], row["queued_at"]]
    if row["status"] in (*RUNNING, "done"):
        moments.append(row["started_at"])
    if row["status"] == "done":
        moments.append(row["completed_at"])
    known = [moment for moment in moments if moment is not None]
    assert known == sorted(known)
    assert row["status"] not in (*LIVE, "done") or len(known) == len(moments)


@pytest.fixture(scope="module")
def machine(postgres_server: Server, laptop: Laptop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The machine, with its own `jobs`, in which no lease and no launch expires by itself."""
    url = postgres_server.clone()
    still = {"CREASE_LEASE_SECONDS": "3600", "CREASE_CONFIRM_SECONDS": "3600", "CREASE_SWEEP_SECONDS": "0.02"}
    env = laptop.env | IMPATIENT | still | {"CREASE_DATABASE_URL": url}
    program = Program("jobs", env, Path(tmp_path_factory.mktemp("machine"), "log"))
    with running(program), psycopg.connect(url, autocommit=True, row_factory=dict_row) as connection:
        given = {"road": Road(program.endpoint, laptop), "database": connection, "arrows": set()}
        yield type("MachineOfThisRun", (Machine,), given)


def drive(machine: Any, examples: int, steps: int, *, repeatable: bool) -> None:
    unhurried = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=repeatable,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=unhurried)


def test_any_short_order_of_calls_leaves_what_the_model_says(machine: Any) -> None:
    """A few hundred steps, the same in every run."""
    drive(machine, 8, 40, repeatable=True)


@pytest.mark.slow
def test_any_long_order_of_calls_leaves_what_the_model_says(machine: Any) -> None:
    """Thousands of steps, different in every run; more of them if one status did not occur by chance."""
    for _ in range(4):
        drive(machine, 60, 60, repeatable=False)
        if {status for _, status in machine.arrows} == set(states.STATUSES):
            break
    assert {status for _, status in machine.arrows} == set(states.STATUSES)
