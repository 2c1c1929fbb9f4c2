"""`python -m services.jobs relay`: sends each JobQueued to SQS, in the order of events, at least once.

standby ──(nobody else holds the lock)──▶ active: read ─▶ send ─▶ record ─▶ read …
   ▲                                        │
   └──────────(its session is lost)─────────┘

Jobs run without it: `WatchEvents` wakes the controller, and a queued row is found at its tick. So whoever has no queue
starts none, as on a laptop. One that was there and no longer runs holds events back from being purged; the sweep of
`jobs` says so.

One relay is active: the one whose session holds an advisory lock, and it reads and records through that session. So it
needs a connection of its own to PostgreSQL, not one that a pooler shares. The server ends a session that says nothing
for IDLE_SECONDS, and one whose host is gone as soon; another relay then goes on from what was recorded last.
"""

import asyncio
import signal
import sys
from collections.abc import Sequence

from prometheus_client import Counter

from services import logs, metrics
from services.jobs.background.sinks.sqs import MAX_MESSAGES, Message, Queue, QueueAway
from services.jobs.domain import states
from services.jobs.rpc import mapping
from services.jobs.settings import RelaySettings
from services.jobs.store import outbox
from services.jobs.store.database import (
    LOCK_TIMEOUT_SECONDS,
    STATEMENT_TIMEOUT_SECONDS,
    Connection,
    Row,
    Session,
    begin,
    connect,
    translate,
)
from services.logs import Logger

MESSAGES = Counter(
    "crease_sqs_messages_total", "Messages that SQS took, and batches of which it took none", ["outcome"]
)

# Any number that nobody else uses.
LOCK = 0x637265617371
IDLE_SECONDS = 7
STANDBY_SECONDS = 1.0
# Shorter than IDLE_SECONDS: who waits for SQS keeps its turn.
LONGEST_BACKOFF_SECONDS = 5.0
SESSION = {
    "statement_timeout": f"{STATEMENT_TIMEOUT_SECONDS}s",
    "lock_timeout": f"{LOCK_TIMEOUT_SECONDS}s",
    "idle_session_timeout": f"{IDLE_SECONDS}s",
    "idle_in_transaction_session_timeout": f"{IDLE_SECONDS}s",
    "tcp_keepalives_idle": "3",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "2",
    "tcp_user_timeout": f"{IDLE_SECONDS}s",
}


def main() -> None:
    settings = RelaySettings.load()
    log = logs.configure("relay", settings.log_level)
    if not settings.queue_url:
        log.info("there is no queue: SQS_VIDEO_ANALYSIS_QUEUE_URL is empty")
        return
    metrics.start(settings.metrics_listen, log)
    # Whenever it ends, the next one goes on: there is nothing to finish.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    asyncio.run(run(settings, Queue(settings), log))


async def run(settings: RelaySettings, queue: Queue, log: Logger) -> None:
    """Relays for ever. A database that is away is tried again."""
    while True:
        try:
            async with await _open(settings) as session:
                await _turn(session)
                log.info("active")
                await _relay(session, queue, settings.poll_seconds, log)
        except Exception as error:
            if translate(error) is None:
                raise
            log.warning("standing by", error=logs.error_text(error))
        await asyncio.sleep(STANDBY_SECONDS)


async def _open(settings: RelaySettings) -> Session:
    options = " ".join(f"-c {name}={value}" for name, value in SESSION.items())
    return await connect(settings.database_url.get_secret_value(), options=options, application_name="crease-relay")


async def _turn(session: Session) -> None:
    """Waits until no other session holds the lock, and this one does: the lock goes with it."""
    while True:
        if await Connection(session).value(f"SELECT pg_try_advisory_lock({LOCK})"):
            return
        await asyncio.sleep(STANDBY_SECONDS)


async def _relay(session: Session, queue: Queue, poll_seconds: float, log: Logger) -> None:
    backoff = poll_seconds
    while True:
        connection = begin(session)
        rows = await outbox.read(connection, await _position(connection))
        await connection.commit()
        try:
            await _send(session, queue, rows)
        except QueueAway as away:
            MESSAGES.labels("refused").inc()
            log.warning("SQS is away", error=str(away), again_seconds=round(backoff, 1))
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, LONGEST_BACKOFF_SECONDS)
            continue
        backoff = poll_seconds
        if len(rows) < outbox.BATCH:
            await asyncio.sleep(poll_seconds)


async def _position(connection: Connection) -> outbox.Position:
    """Where the last relay stopped; at first, before all that is kept, so that a job from before it is sent too."""
    return await outbox.position(connection, outbox.RELAY) or await outbox.hold(connection, outbox.RELAY)


async def _send(session: Session, queue: Queue, rows: Sequence[Row]) -> None:
    """Sends what of these events is for SQS, and records after each batch. Raises QueueAway."""
    waiting = [row for row in rows if row["to_status"] == states.QUEUED]
    while waiting:
        ids = await asyncio.to_thread(queue.send, [message(row) for row in waiting[:MAX_MESSAGES]])
        MESSAGES.labels("sent").inc(len(ids))
        sent, waiting = waiting[: len(ids)], waiting[len(ids) :]
        await _record(session, sent[-1], dict(zip((row["job_id"] for row in sent), ids, strict=True)))
    if rows and rows[-1]["to_status"] != states.QUEUED:
        await _record(session, rows[-1], {})


async def _record(session: Session, last: Row, sent: dict[object, str]) -> None:
    """Writes each job's message id beside it, which is no transition, and where the relay stands now."""
    connection = begin(session)
    for job in sorted(sent, key=str):
        connection.later(_SENT, job=job, message=sent[job])
    await outbox.move(connection, outbox.RELAY, outbox.Position(last["xid"], last["id"]))
    await connection.commit()


_SENT = "UPDATE video_analysis_jobs SET sqs_message_id = %(message)s WHERE id = %(job)s"


def message(row: Row) -> Message:
    """The body as consumers know it, and the CloudEvents envelope as attributes; `ce-id` says the order."""
    event = mapping.event(row)
    body = {
        "job_id": event.data.job_id,
        "session_id": event.data.session_id,
        "sample_fps": event.data.sample_fps,
        "include_frames": event.data.include_frames,
    }
    envelope = {
        "ce-id": event.id,
        "ce-source": event.source,
        "ce-specversion": event.specversion,
        "ce-type": event.type,
        "ce-subject": event.subject,
        "ce-time": event.time.ToJsonString(),
        "content-type": "application/json",
    }
    return Message(body, envelope)
