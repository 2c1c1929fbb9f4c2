"""The faults of a game day: what breaks, which alert tells of it, and what its page in docs/operating.md says to do.

Where the page says SQL, it is the page's own, read from it; its times are made shorter as Prometheus' are.
"""

import contextlib
import os
import re
import secrets
import signal
import subprocess
from collections.abc import Callable, Generator
from dataclasses import dataclass

import grpc
import psycopg

from crease.analysis.v1.launch_pb2 import Launch
from crease.jobs.v1.job_pb2 import ACCELERATOR_CPU
from services.controller import record
from services.controller.launcher import Placement, labels_of
from tests.gameday.arena import VIDEO, Arena
from tests.product import put
from tests.programs import ROOT

PAGE = ROOT / "docs" / "operating.md"


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
    """`begin` breaks something, and yields its repair; `command` is what shows it, by saying `words`."""

    what: str
    alert: str
    begin: Callable[[Arena], Steps]
    command: str
    words: str


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


def a_drain_is_forgotten(arena: Arena) -> Steps:
    """Somebody drained for an upgrade, and went home."""
    arena.crease("drain")
    arena.product.controller.stop(signal.SIGTERM)
    # It outlives the controller.
    arena.product.controller.start()
    arena.queued(11)
    yield Repair("`crease drain --undo`", lambda: arena.crease("drain", "--undo"))


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
    for _ in range(8):
        with contextlib.suppress(grpc.RpcError):
            arena.product.complete(begun.job_id)

    def repair() -> None:
        arena.line.fault = "none"
        arena.product.complete(begun.job_id)

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


def a_ghost_runs(arena: Arena) -> Steps:
    """Somebody restored an analysis by hand that no launch knows."""
    launch = Launch(job_id="00000000-0000-4000-8000-000000000001", launch_no=1)
    launches = arena.here.folder / "controller" / "launches"
    made = record.draft(
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


FAULTS = (
    Fault("Clients die before CompleteUpload", "CreaseUploadsStuck", uploads_are_not_completed, "status",
          "6 uploads over 5 min"),
    Fault("The image has no model", "CreaseImageBroken", the_image_has_no_model, "why", "(IMAGE)"),
    Fault("A drain is forgotten", "CreaseBacklog", a_drain_is_forgotten, "status", "launches nothing new: drained by"),
    Fault("Nothing ends any more", "CreaseOldestQueued", a_job_is_too_old, "why", "no cluster has had room"),
    Fault("The controller is gone", "CreaseNoLeader", the_controller_is_gone, "status", "nobody works"),
    Fault("PostgreSQL is gone", "CreaseNoNumbers", the_database_is_gone, "doctor", "The database is away"),
    Fault("S3 is gone", "CreaseS3Fails", s3_is_gone, "doctor", "S3 could not be asked"),
    Fault("SQS is gone", "CreaseRelayLags", sqs_is_gone, "doctor", "the oldest message has been waiting"),
    Fault("Analyses fall silent", "CreaseLeasesLost", analyses_fall_silent, "why", "lease_lost"),
    Fault("Rows are written by hand", "CreaseInvariantBroken", rows_are_written_by_hand, "why",
          "somebody wrote into the database"),
    Fault("A console stays open in a transaction", "CreaseOutboxLags", a_console_stays_open, "status",
          "events held back"),
    Fault("A ghost runs", "CreaseGhosts", a_ghost_runs, "status", "1 ghosts"),
)  # fmt: skip
