"""The faults of a game day: what breaks, which alert tells of it, and what its page in docs/operating.md says to do.

Where the page says SQL, it is the page's own, read from it; its times are made shorter as Prometheus' are. FAULTS are
played on this machine; IN_A_CLUSTER, what only a cluster can do to us, on a real API server.
"""

import contextlib
import json
import os
import re
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import psycopg
import pytest

from crease.analysis.v1.launch_pb2 import Launch
from crease.jobs.v1.job_pb2 import ACCELERATOR_CPU
from services.controller.core.launcher import Placement, labels_of
from services.controller.local import process_record
from testing.servers.product import put
from tests.gameday.arena import POOL_SIZE, VIDEO, Arena
from tests.gameday.signs import PAGE

STAGGER_SECONDS = 0.6


def sql_of(heading: str) -> list[str]:
    """The statements of a page's section, with its minutes as seconds."""
    section = PAGE.read_text().split(f"\n### {heading}\n")[1].split("\n#")[0]
    blocks = re.findall(r"```sql\n(.*?)```", section, re.DOTALL)
    return [re.sub(r"'(\d+) minutes?'", r"'\1 seconds'", line) for block in blocks for line in block.splitlines()]


def run_page(arena: Arena, heading: str) -> None:
    """Runs the statements of a section, in their order."""
    for statement in sql_of(heading):
        arena.sql(statement)


@dataclass(frozen=True)
class Repair:
    """What was done, and how it is written down."""

    words: str
    act: Callable[[], object]


Steps = Generator[Repair, None, None]


@dataclass(frozen=True)
class Fault:
    """`begin` breaks something, and yields its repair. All its alerts fire; others may."""

    what: str
    alerts: tuple[str, ...]
    begin: Callable[[Arena], Steps]


@contextlib.contextmanager
def calling(*calls: Callable[[], object]) -> Iterator[None]:
    """Clients who go on trying, each in a thread of its own, for as long as the block runs."""
    over = threading.Event()

    def go_on(call: Callable[[], object]) -> None:
        while not over.wait(0.1):
            with contextlib.suppress(grpc.RpcError):
                call()

    threads = [threading.Thread(target=go_on, args=(call,)) for call in calls]
    for thread in threads:
        # Apart, so that their ends do not all fall together.
        time.sleep(STAGGER_SECONDS)
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def uploads_are_not_completed(arena: Arena) -> Steps:
    """Clients put their videos and die; minutes pass."""
    for _ in range(6):
        put(arena.product.initiate(len(VIDEO)), VIDEO)
    # Time in the tables cannot be made shorter: it is turned back.
    arena.sql(
        "UPDATE video_analysis_jobs SET created_at = created_at - INTERVAL '11 minutes', status_since = status_since - "
        "INTERVAL '11 minutes' WHERE status = 'awaiting_upload'"
    )
    yield Repair(
        "the `UPDATE` under *Rows that are stuck*", lambda: run_page(arena, "Rows that are stuck")
    )  # fmt: skip


def the_image_has_no_model(arena: Arena) -> Steps:
    """A release was built without its model."""
    arena.mode("no model")
    arena.queued(2)

    def repair() -> None:
        arena.crease("drain")
        arena.mode("work")
        arena.crease("drain", "--undo")
        arena.crease("retry", "--code", "IMAGE")

    yield Repair("`crease drain`, a whole image, `crease drain --undo`, `crease retry --code IMAGE`", repair)


def videos_never_arrive(arena: Arena) -> Steps:
    """An app's release says that it is complete, and has sent nothing."""
    begun = [arena.product.initiate(len(VIDEO)) for _ in range(11)]
    for one in begun:
        with contextlib.suppress(grpc.RpcError):
            arena.product.complete(one.job_id)

    def repair() -> None:
        for one in begun:
            put(one, VIDEO)
            arena.product.complete(one.job_id)

    yield Repair("the app sends them, and calls CompleteUpload again", repair)


def a_drain_is_forgotten(arena: Arena) -> Steps:
    """Somebody drained for an upgrade, and went home."""
    arena.crease("drain")
    arena.product.controller.stop(signal.SIGTERM)
    # It outlives the controller.
    arena.product.controller.start()
    arena.queued(51)

    def repair() -> None:
        # To wait for so many proves nothing more.
        arena.cancel_open()
        arena.queued()
        arena.crease("drain", "--undo")

    yield Repair("`crease drain --undo`", repair)


def a_job_is_too_old(arena: Arena) -> Steps:
    """Everything that may run is held by videos that do not end."""
    arena.mode("hold")
    arena.queued(5)
    yield Repair("room: the four before it are ended (`crease cancel`)", lambda: _cancel_running(arena))


def the_controller_is_gone(arena: Arena) -> Steps:
    """Its pods are killed and do not come back."""
    arena.product.controller.kill()
    arena.queued()
    yield Repair("the controller is started again", lambda: arena.product.controller.start())


def the_database_is_gone(arena: Arena) -> Steps:
    """PostgreSQL is stopped."""
    arena.queued()
    arena.database.off()
    yield Repair("PostgreSQL is started again", arena.database.on)


def s3_is_gone(arena: Arena) -> Steps:
    """S3 answers 500 to everything; a client keeps trying to complete its upload."""
    begun = arena.product.initiate(len(VIDEO))
    put(begun, VIDEO)
    arena.line.fault = "broken"

    def repair() -> None:
        arena.line.fault = "none"
        arena.product.complete(begun.job_id)

    with calling(lambda: arena.product.complete(begun.job_id)):
        yield Repair("S3 comes back; the client calls CompleteUpload again", repair)


def sqs_is_gone(arena: Arena) -> Steps:
    """SQS answers 500 to everything."""
    arena.queue_line.fault = "broken"
    arena.queued()
    yield Repair("SQS comes back; the relay goes on by itself", lambda: setattr(arena.queue_line, "fault", "none"))


def analyses_fall_silent(arena: Arena) -> Steps:
    """A node freezes, with all that runs on it."""
    arena.mode("hold")
    arena.queued(4)
    arena.until(lambda: arena.sql("SELECT count(*) FROM launches WHERE started_at > now() - INTERVAL '1 hour' "
                                  "AND ended_at IS NULL") == [(4,)], "they run")  # fmt: skip
    groups = [int(file.read_text()) for file in (arena.here.folder / "controller" / "launches").glob("*/pid")
              if not (file.parent / "exit_code").exists()]  # fmt: skip
    for group in groups:
        os.killpg(group, signal.SIGSTOP)
    arena.mode("work")

    def repair() -> None:
        for group in groups:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)

    yield Repair("the node goes (`kubectl drain`); the jobs are launched again by themselves", repair)


def rows_are_written_by_hand(arena: Arena) -> Steps:
    """An operator's UPDATE says that a job is at work; nothing is."""
    arena.crease("drain")
    job_id = arena.queued()[0]
    arena.sql(f"UPDATE video_analysis_jobs SET status = 'deep_running', stage = 'DEEP' WHERE id = '{job_id}'")  # noqa: S608
    arena.crease("drain", "--undo")
    yield Repair(
        "the `UPDATE` under *Rows that do not add up*",
        lambda: run_page(arena, "Rows that do not add up"),
    )


def a_console_stays_open(arena: Arena) -> Steps:
    """Somebody typed BEGIN, wrote something and left; events behind it must wait."""
    with psycopg.connect(arena.database_url) as console:
        console.execute("CREATE TEMPORARY TABLE notes (words text)")
        arena.queued()
        yield Repair(
            "the second statement under *A transaction that stays open*",
            lambda: run_page(arena, "A transaction that stays open"),
        )
        with contextlib.suppress(psycopg.Error):
            console.rollback()


def a_lock_is_held(arena: Arena) -> Steps:
    """Somebody altered a table by hand, in a transaction, and left; coaches go on sending."""
    with psycopg.connect(arena.database_url) as console:
        console.execute("LOCK TABLE video_sessions IN EXCLUSIVE MODE")
        with calling(*[lambda: arena.product.initiate(len(VIDEO))] * (2 * POOL_SIZE)):
            yield Repair(
                "the second statement under *A transaction that stays open*",
                lambda: run_page(arena, "A transaction that stays open"),
            )
        with contextlib.suppress(psycopg.Error):
            console.rollback()
    arena.cancel_open()


def a_ghost_runs(arena: Arena) -> Steps:
    """Somebody restored an analysis by hand that no launch knows."""
    launch = Launch(job_id="00000000-0000-4000-8000-000000000001", launch_no=1)
    launches = arena.here.folder / "controller" / "launches"
    made = process_record.create_draft(
        launches,
        labels=labels_of(launch),
        placement=Placement(ACCELERATOR_CPU, "by hand"),
        token=secrets.token_hex(4),
    )
    with made.lock() as lock:
        named = made.publish(f"analysis-{launch.job_id}-1")
        assert named is not None
        process: subprocess.Popen[bytes] = named.start(("sleep", "1000"), {"PATH": os.defpath}, lock)
    yield Repair("it is deleted (`kubectl delete job`)", lambda: named.signal(signal.SIGTERM))
    process.wait(timeout=30)


def _cancel_running(arena: Arena) -> None:
    running = arena.sql("SELECT id FROM video_analysis_jobs WHERE launched")
    for (job_id,) in running:
        arena.crease("cancel", str(job_id))
    arena.mode("work")


def the_clock_is_wrong(arena: Arena) -> Steps:
    """The controller's node lost its time server, and is 45 s ahead."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    if library is None:
        pytest.skip("libfaketime is missing; as root: apt-get install faketime")
    arena.queued()
    arena.restart_controller(LD_PRELOAD=str(library), FAKETIME="+45s", FAKETIME_DONT_FAKE_MONOTONIC="1")

    def repair() -> None:
        arena.restart_controller(LD_PRELOAD="", FAKETIME="")
        arena.cancel_open()

    yield Repair("the node's clock is set; the controller moved meanwhile", repair)


def a_quota_has_no_room(arena: Arena) -> Steps:
    """Somebody gave the namespace a quota, and not enough of it."""
    assert arena.namespace
    name, cluster = arena.namespace.name, arena.namespace.cluster
    cluster.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few", "namespace": name},
                   "spec": {"hard": {"count/jobs.batch": "0"}}})  # fmt: skip
    arena.until(lambda: "hard" in cluster.get("resourcequota", "few", "-n", name).get("status", {}), "the quota")
    arena.queued()

    def repair() -> None:
        cluster.kubectl("delete", "resourcequota", "few", "-n", name)
        _launched_and_cancelled(arena)

    yield Repair("the quota is raised", repair)


def a_right_is_missing(arena: Arena) -> Steps:
    """A policy took the right to create Kubernetes Jobs out of the controller's Role."""
    assert arena.namespace
    name, cluster = arena.namespace.name, arena.namespace.cluster
    role = ("role", f"crease-controller-{name}", "-n", name)
    verbs = cluster.get(*role)["rules"][0]["verbs"]

    def allow(*verbs: str) -> None:
        patch = json.dumps([{"op": "replace", "path": "/rules/0/verbs", "value": verbs}])
        cluster.kubectl("patch", *role, "--type=json", "-p", patch)

    allow("get", "list", "watch", "patch", "delete")
    arena.queued()

    def repair() -> None:
        allow(*verbs)
        _launched_and_cancelled(arena)

    yield Repair("the Role is put back, as `helm upgrade` does", repair)


def the_api_server_is_gone(arena: Arena) -> Steps:
    """It is killed and does not come back."""
    assert arena.namespace
    cluster = arena.namespace.cluster
    cluster.sv("down", "kube-apiserver")
    cluster.sv("kill", "kube-apiserver")
    arena.queued()

    def repair() -> None:
        cluster.sv("up", "kube-apiserver")
        _launched_and_cancelled(arena)

    yield Repair("the API server is started again", repair)


def no_gpu_comes(arena: Arena) -> Steps:
    """A pool of GPUs was promised that grows from zero, and it does not grow."""
    promise = {"CREASE_GPU_RESOURCE": "nvidia.com/gpu", "CREASE_GPU_SCALES_UP": "true", "CREASE_GPU_WAIT_SECONDS": "1"}
    arena.restart_controller(**promise)
    arena.queued(11)

    def repair() -> None:
        arena.restart_controller(CREASE_GPU_SCALES_UP="false")
        arena.cancel_open()

    yield Repair("the promise is taken back: `analyzer.gpu.scalesUp=false`", repair)


def _launched_and_cancelled(arena: Arena) -> None:
    """What waited has its Kubernetes Job at last; on a cluster without a node more cannot come of it."""
    launched = "SELECT count(*) FROM launches WHERE ended_at IS NULL AND confirmed_at IS NOT NULL"
    arena.until(lambda: arena.sql(launched) == [(1,)], "its Kubernetes Job")
    arena.cancel_open()


FAULTS = (
    Fault("Clients die before CompleteUpload", ("CreaseUploadsStuck",), uploads_are_not_completed),
    Fault("Clients complete what they never sent", ("CreaseFailures",), videos_never_arrive),
    Fault("The image has no model", ("CreaseImageBroken",), the_image_has_no_model),
    Fault("A drain is forgotten", ("CreaseBacklog", "CreaseBacklogLarge"), a_drain_is_forgotten),
    Fault("Nothing ends any more", ("CreaseOldestQueued",), a_job_is_too_old),
    Fault("The controller is gone", ("CreaseNoLeader",), the_controller_is_gone),
    Fault("PostgreSQL is gone", ("CreaseNoNumbers", "CreaseCallsFail"), the_database_is_gone),
    Fault("Somebody holds a lock", ("CreasePoolFull", "CreaseCallsSlow"), a_lock_is_held),
    Fault("S3 is gone", ("CreaseS3Fails",), s3_is_gone),
    Fault("SQS is gone", ("CreaseRelayLags",), sqs_is_gone),
    Fault("Analyses fall silent", ("CreaseLeasesLost",), analyses_fall_silent),
    Fault("Rows are written by hand", ("CreaseInvariantBroken",), rows_are_written_by_hand),
    Fault("A console stays open in a transaction", ("CreaseOutboxLags",), a_console_stays_open),
    Fault("A ghost runs", ("CreaseGhosts",), a_ghost_runs),
)
# What `make slow` plays: together under a minute.
QUICK = tuple(
    fault for fault in FAULTS if fault.begin in (the_controller_is_gone, a_lock_is_held, a_console_stays_open)
)
IN_A_CLUSTER = (
    Fault("The controller's clock is wrong", ("CreaseClockSkew",), the_clock_is_wrong),
    Fault("A quota has no room", ("CreaseClusterRefuses",), a_quota_has_no_room),
    Fault("The controller lacks a right", ("CreaseClusterRefuses", "CreaseOrphans"), a_right_is_missing),
    Fault("No GPU comes", ("CreaseGpuFallbacks",), no_gpu_comes),
    # The last: the cluster's own controllers take minutes to find it again.
    Fault("The API server is gone", ("CreaseViewStale",), the_api_server_is_gone),
)
