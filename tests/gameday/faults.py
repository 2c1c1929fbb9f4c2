"""The faults of a game day: each injects a failure, names its alerts, and applies the repair of docs/operating.md.

SQL repairs are read from the page, with minutes shortened to seconds as in the rules. FAULTS run on this machine;
IN_A_CLUSTER need a real API server.
"""

import contextlib
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import grpc
import jwt
import psycopg
import pytest

from crease.analysis.v1.launch_pb2 import Launch
from crease.events.v1.event_pb2 import WatchEventsRequest
from crease.events.v1.event_pb2_grpc import EventServiceStub
from crease.jobs.v1.job_pb2 import ACCELERATOR_CPU, ListJobsRequest
from services import dev_issuer
from services.controller.core.launcher import Placement, labels_of
from services.controller.local import process_record
from testing.servers import certificates
from testing.servers.product import put
from tests.gameday.arena import POOL_SIZE, VIDEO, Arena
from tests.gameday.signs import PAGE

STAGGER_SECONDS = 0.6


def sql_of(heading: str) -> list[str]:
    """The SQL statements of a section of the page, with minutes replaced by seconds."""
    section = PAGE.read_text().split(f"\n### {heading}\n")[1].split("\n#")[0]
    blocks = re.findall(r"```sql\n(.*?)```", section, re.DOTALL)
    return [re.sub(r"'(\d+) minutes?'", r"'\1 seconds'", line) for block in blocks for line in block.splitlines()]


def run_page(arena: Arena, heading: str) -> None:
    """Runs the SQL statements of a section of the page in order."""
    for statement in sql_of(heading):
        arena.sql(statement)


@dataclass(frozen=True)
class Repair:
    """A repair: its description for the table, and the action."""

    description: str
    act: Callable[[], object]


Steps = Generator[Repair, None, None]


@dataclass(frozen=True)
class Fault:
    """`begin` injects the failure and yields its repair. All of `alerts` must fire; others may."""

    name: str
    alerts: tuple[str, ...]
    begin: Callable[[Arena], Steps]


@contextlib.contextmanager
def calling(*calls: Callable[[], object]) -> Iterator[None]:
    """Repeats each call in a thread of its own until the block ends, ignoring RPC errors."""
    stopped = threading.Event()

    def repeat(call: Callable[[], object]) -> None:
        while not stopped.wait(0.1):
            with contextlib.suppress(grpc.RpcError):
                call()

    threads = [threading.Thread(target=repeat, args=(call,)) for call in calls]
    for thread in threads:
        # Staggered, so that the calls do not all end at the same time.
        time.sleep(STAGGER_SECONDS)
        thread.start()
    try:
        yield
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


def clients_die(arena: Arena) -> Steps:
    """Clients upload their videos and crash; minutes pass."""
    for _ in range(6):
        put(arena.product.initiate(len(VIDEO)), VIDEO)
    # The tables keep real time, so the rows are backdated instead.
    arena.sql(
        "UPDATE video_analysis_jobs SET created_at = created_at - INTERVAL '11 minutes', status_since = status_since - "
        "INTERVAL '11 minutes' WHERE status = 'awaiting_upload'"
    )
    yield Repair(
        "the `UPDATE` under *Rows that are stuck*", lambda: run_page(arena, "Rows that are stuck")
    )  # fmt: skip


def the_image_has_no_model(arena: Arena) -> Steps:
    """A release contains an image without the model."""
    arena.mode("no model")
    arena.queued(2)

    def repair() -> None:
        arena.crease("drain")
        arena.mode("work")
        arena.crease("drain", "--undo")
        arena.crease("retry", "--code", "IMAGE")

    yield Repair("`crease drain`, an image with the model, `crease drain --undo`, `crease retry --code IMAGE`", repair)


def videos_are_missing(arena: Arena) -> Steps:
    """A faulty client calls CompleteUpload without an upload."""
    begun = [arena.product.initiate(len(VIDEO)) for _ in range(11)]
    for one in begun:
        with contextlib.suppress(grpc.RpcError):
            arena.product.complete(one.job_id)

    def repair() -> None:
        for one in begun:
            put(one, VIDEO)
            arena.product.complete(one.job_id)

    yield Repair("the client uploads the videos and calls CompleteUpload again", repair)


def a_drain_is_forgotten(arena: Arena) -> Steps:
    """An operator drained the controller for an upgrade and did not undo it."""
    arena.crease("drain")
    arena.product.controller.stop(signal.SIGTERM)
    # The drain survives a restart of the controller.
    arena.product.controller.start()
    arena.queued(51)

    def repair() -> None:
        # Analysing all 51 jobs would prove nothing more.
        arena.cancel_open()
        arena.queued()
        arena.crease("drain", "--undo")

    yield Repair("`crease drain --undo`", repair)


def analyses_never_finish(arena: Arena) -> Steps:
    """Analyses that never finish use all of the capacity."""
    arena.mode("hold")
    arena.queued(5)
    yield Repair("`crease cancel` for the four running jobs", lambda: _cancel_running(arena))


def the_controller_is_down(arena: Arena) -> Steps:
    """The controller is killed and does not restart."""
    arena.product.controller.kill()
    arena.queued()
    yield Repair("the controller is started", lambda: arena.product.controller.start())


def postgresql_is_down(arena: Arena) -> Steps:
    """PostgreSQL is stopped."""
    arena.queued()
    arena.database.off()
    yield Repair("PostgreSQL is started", arena.database.on)


def an_unpublished_key_signs(arena: Arena) -> Steps:
    """An issuer has a new key, and its public keys are the old ones."""
    published = arena.here.issuer / "jwks.json"
    new = arena.here.folder / "new-key"
    dev_issuer.create(new)
    claims = jwt.decode(dev_issuer.person(new, "coach-1"), options={"verify_signature": False})
    token = jwt.encode(claims, (new / "key.pem").read_text(), algorithm="ES256", headers={"kid": "new"})
    metadata = (("authorization", f"Bearer {token}"),)

    def is_accepted() -> bool:
        with contextlib.suppress(grpc.RpcError):
            arena.product.job_stub.ListJobs(ListJobsRequest(), metadata=metadata)
            return True
        return False

    def publish() -> None:
        keys = json.loads(published.read_text())["keys"]
        [key] = json.loads((new / "jwks.json").read_text())["keys"]
        published.write_text(json.dumps({"keys": [*keys, key | {"kid": "new"}]}))
        arena.until(is_accepted, "the new key")

    with calling(*[is_accepted] * 4):
        yield Repair("the issuer publishes the key", publish)


def s3_is_down(arena: Arena) -> Steps:
    """S3 answers 500 to every request; a client repeats CompleteUpload."""
    begun = arena.product.initiate(len(VIDEO))
    put(begun, VIDEO)
    arena.line.fault = "broken"

    def repair() -> None:
        arena.line.fault = "none"
        arena.product.complete(begun.job_id)

    with calling(lambda: arena.product.complete(begun.job_id)):
        yield Repair("S3 recovers; the client calls CompleteUpload again", repair)


def sqs_is_down(arena: Arena) -> Steps:
    """SQS answers 500 to every request."""
    arena.queue_line.fault = "broken"
    arena.queued()
    yield Repair("SQS recovers; the relay resumes by itself", lambda: setattr(arena.queue_line, "fault", "none"))


def a_service_stops_listening(arena: Arena) -> Steps:
    """A service makes a subscription, and its program ends; jobs go on."""
    service = arena.product.laptop.service(dev_issuer.SERVICE)
    with grpc.insecure_channel(arena.product.jobs.endpoint) as channel:
        events = EventServiceStub(channel)
        stream = events.WatchEvents(WatchEventsRequest(after="0-0", subscription="reports"), metadata=service)
        next(stream)
        stream.cancel()
        arena.queued()

        def repair() -> None:
            [statement] = sql_of("CreaseSubscriptionLags")
            arena.sql(statement.replace("SERVICE", dev_issuer.SERVICE).replace("NAME", "reports"))

        yield Repair("the `DELETE` of the page: the service is gone", repair)


def analyses_send_no_heartbeat(arena: Arena) -> Steps:
    """A node freezes with all its analyses."""
    arena.mode("hold")
    arena.queued(4)
    arena.until(lambda: arena.sql("SELECT count(*) FROM launches WHERE started_at > now() - INTERVAL '1 hour' "
                                  "AND ended_at IS NULL") == [(4,)], "four running analyses")  # fmt: skip
    groups = [int(file.read_text()) for file in (arena.here.folder / "controller" / "launches").glob("*/pid")
              if not (file.parent / "exit_code").exists()]  # fmt: skip
    for group in groups:
        os.killpg(group, signal.SIGSTOP)
    arena.mode("work")

    def repair() -> None:
        for group in groups:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)

    yield Repair("the node is drained (`kubectl drain`); `jobs` requeues the jobs by itself", repair)


def rows_are_written_by_hand(arena: Arena) -> Steps:
    """An operator's UPDATE sets a running status on a job without a launch."""
    arena.crease("drain")
    job_id = arena.queued()[0]
    arena.sql(f"UPDATE video_analysis_jobs SET status = 'deep_running', stage = 'DEEP' WHERE id = '{job_id}'")  # noqa: S608
    arena.crease("drain", "--undo")
    yield Repair(
        "the `UPDATE` under *Rows that do not add up*",
        lambda: run_page(arena, "Rows that do not add up"),
    )


@contextlib.contextmanager
def console(arena: Arena, statement: str) -> Iterator[None]:
    """A console that stays open in a transaction after a statement, until the block or a repair ends it."""
    with psycopg.connect(arena.database_url) as session:
        session.execute(statement)
        yield
        with contextlib.suppress(psycopg.Error):
            session.rollback()


def end_console(arena: Arena) -> Repair:
    """The repair of the page, for every console that stays open."""
    return Repair(
        "the second statement under *A transaction that stays open*",
        lambda: run_page(arena, "A transaction that stays open"),
    )


def a_session_stays_open(arena: Arena) -> Steps:
    """A console stays open after BEGIN and a write; later events are held back."""
    with console(arena, "CREATE TEMPORARY TABLE notes (words text)"):
        arena.queued()
        yield end_console(arena)


def a_transaction_holds_a_lock(arena: Arena) -> Steps:
    """A console holds a table lock in an open transaction; clients keep calling."""
    with (
        console(arena, "LOCK TABLE video_sessions IN EXCLUSIVE MODE"),
        calling(*[lambda: arena.product.initiate(len(VIDEO))] * (2 * POOL_SIZE)),
    ):
        yield end_console(arena)
    arena.cancel_open()


def a_loop_is_stuck(arena: Arena) -> Steps:
    """A console holds the table that one background loop of `jobs` writes."""
    with console(arena, "LOCK TABLE tellers IN EXCLUSIVE MODE"):
        yield end_console(arena)


def an_overdue_row_is_held(arena: Arena) -> Steps:
    """A console holds the row of a running job; heartbeats and expiry need it."""
    arena.mode("hold")
    arena.queued()
    running = "SELECT count(*) FROM launches WHERE started_at IS NOT NULL AND ended_at IS NULL"
    arena.until(lambda: arena.sql(running) == [(1,)], "a running analysis")
    with console(arena, "SELECT FROM video_analysis_jobs FOR UPDATE"):
        yield end_console(arena)
    arena.mode("work")
    arena.cancel_open()


def a_ghost_runs(arena: Arena) -> Steps:
    """An analysis runs that no launch was opened for."""
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
    yield Repair("`kubectl delete job`", lambda: named.signal(signal.SIGTERM))
    process.wait(timeout=30)


def a_certificate_is_not_renewed(arena: Arena) -> Steps:
    """The controller serves TLS with a certificate that expires within hours."""
    folder = arena.here.folder / "tls"
    folder.mkdir()
    certificate, key = certificates.make(folder)
    controller = arena.product.controller
    controller.authority = certificate
    arena.restart_controller(CREASE_TLS_CERTIFICATE=str(certificate), CREASE_TLS_KEY=str(key))

    def repair() -> None:
        certificates.make(folder, lifetime=timedelta(days=90))
        # As Kubernetes probes a server with TLS.
        socket.create_connection(("127.0.0.1", controller.port)).close()

    yield Repair("the Secret of `tls.secret` is renewed; the programs read it without a restart", repair)


def _cancel_running(arena: Arena) -> None:
    running = arena.sql("SELECT id FROM video_analysis_jobs WHERE launched")
    for (job_id,) in running:
        arena.crease("cancel", str(job_id))
    arena.mode("work")


def the_clock_is_wrong(arena: Arena) -> Steps:
    """The clock of the controller's node is 45 s ahead."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    if library is None:
        pytest.skip("libfaketime is missing; as root: apt-get install faketime")
    arena.queued()
    arena.restart_controller(LD_PRELOAD=str(library), FAKETIME="+45s", FAKETIME_DONT_FAKE_MONOTONIC="1")

    def repair() -> None:
        arena.restart_controller(LD_PRELOAD="", FAKETIME="")
        arena.cancel_open()

    yield Repair("the node's clock is set; until then the controller moves to another node", repair)


def a_quota_is_used_up(arena: Arena) -> Steps:
    """A new quota of the namespace allows no Kubernetes Job."""
    assert arena.namespace
    name, cluster = arena.namespace.name, arena.namespace.cluster
    cluster.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few", "namespace": name},
                   "spec": {"hard": {"count/jobs.batch": "0"}}})  # fmt: skip
    arena.until(lambda: "hard" in cluster.get("resourcequota", "few", "-n", name).get("status", {}), "the quota")
    arena.queued()

    def repair() -> None:
        cluster.kubectl("delete", "resourcequota", "few", "-n", name)
        _wait_for_launch_and_cancel(arena)

    yield Repair("the quota is raised", repair)


def a_right_is_missing(arena: Arena) -> Steps:
    """A policy removed the verb `create` for Kubernetes Jobs from the controller's Role."""
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
        _wait_for_launch_and_cancel(arena)

    yield Repair("`helm upgrade` restores the Role", repair)


def the_api_server_is_down(arena: Arena) -> Steps:
    """The API server is killed and does not restart."""
    assert arena.namespace
    cluster = arena.namespace.cluster
    cluster.sv("down", "kube-apiserver")
    cluster.sv("kill", "kube-apiserver")
    arena.queued()

    def repair() -> None:
        cluster.sv("up", "kube-apiserver")
        _wait_for_launch_and_cancel(arena)

    yield Repair("the API server is started", repair)


def the_gpu_pool_does_not_grow(arena: Arena) -> Steps:
    """A GPU pool is configured to grow from zero and does not grow."""
    promise = {"CREASE_GPU_RESOURCE": "nvidia.com/gpu", "CREASE_GPU_SCALES_UP": "true", "CREASE_GPU_WAIT_SECONDS": "1"}
    arena.restart_controller(**promise)
    arena.queued(11)

    def repair() -> None:
        arena.restart_controller(CREASE_GPU_SCALES_UP="false")
        arena.cancel_open()

    yield Repair("`analyzer.gpu.scalesUp=false`", repair)


def _wait_for_launch_and_cancel(arena: Arena) -> None:
    """Waits for the pending Kubernetes Job, then cancels it: a cluster without a node runs no pod."""
    launched = "SELECT count(*) FROM launches WHERE ended_at IS NULL AND confirmed_at IS NOT NULL"
    arena.until(lambda: arena.sql(launched) == [(1,)], "its Kubernetes Job")
    arena.cancel_open()


FAULTS = (
    Fault("Clients die before CompleteUpload", ("CreaseUploadsStuck",), clients_die),
    Fault("Clients complete uploads they never sent", ("CreaseFailures",), videos_are_missing),
    Fault("The image has no model", ("CreaseImageBroken",), the_image_has_no_model),
    Fault("A drain is forgotten", ("CreaseBacklog", "CreaseBacklogLarge"), a_drain_is_forgotten),
    Fault("Analyses never finish", ("CreaseOldestQueued",), analyses_never_finish),
    Fault("The controller is down", ("CreaseNoLeader",), the_controller_is_down),
    Fault("PostgreSQL is down", ("CreaseNoNumbers", "CreaseCallsFail"), postgresql_is_down),
    Fault("An issuer signs with an unpublished key", ("CreaseIssuerKeys",), an_unpublished_key_signs),
    Fault("A transaction holds a table lock", ("CreasePoolFull", "CreaseCallsSlow"), a_transaction_holds_a_lock),
    Fault("S3 is down", ("CreaseS3Fails",), s3_is_down),
    Fault("SQS is down", ("CreaseRelayLags",), sqs_is_down),
    Fault("A service stops listening", ("CreaseSubscriptionLags",), a_service_stops_listening),
    Fault("Analyses send no heartbeat", ("CreaseLeasesLost",), analyses_send_no_heartbeat),
    Fault("Rows are written by hand", ("CreaseInvariantBroken",), rows_are_written_by_hand),
    Fault("A session stays open in a transaction", ("CreaseOutboxLags",), a_session_stays_open),
    Fault("A background loop is stuck", ("CreaseLoopLate",), a_loop_is_stuck),
    Fault("A console holds an overdue row", ("CreaseExpiryLate",), an_overdue_row_is_held),
    Fault("A ghost runs", ("CreaseGhosts",), a_ghost_runs),
    Fault("A certificate is not renewed", ("CreaseCertificateExpires",), a_certificate_is_not_renewed),
)
# `make slow` runs these: under a minute together.
QUICK = tuple(
    fault
    for fault in FAULTS
    if fault.begin in (the_controller_is_down, a_transaction_holds_a_lock, a_session_stays_open)
)
IN_A_CLUSTER = (
    Fault("The controller's clock is wrong", ("CreaseClockSkew",), the_clock_is_wrong),
    Fault("A quota is used up", ("CreaseClusterRefuses",), a_quota_is_used_up),
    Fault("The controller lacks a right", ("CreaseClusterRefuses", "CreaseOrphans"), a_right_is_missing),
    Fault("The GPU pool does not grow", ("CreaseGpuFallbacks",), the_gpu_pool_does_not_grow),
    # Last, because the cluster's own controllers take minutes to reconnect.
    Fault("The API server is down", ("CreaseViewStale",), the_api_server_is_down),
)
