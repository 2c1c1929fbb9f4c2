"""`python -m services.jobs relay`: sends each JobQueued event to SQS, in order, at least once.

    standby ──(the lock is free)──▶ active: read ─▶ send ─▶ save position ─▶ read …
       ▲                               │
       └──────(the session ends)───────┘

The relay is optional: without SQS, as on a laptop, `WatchEvents` and the controller's polling find each queued job.
Events are not purged until the relay has sent them; if no relay runs, `expiry` logs the lag.

One relay is active: its session holds an advisory lock, and it reads and writes through that session. The relay
therefore needs its own connection to PostgreSQL, without a pooler. PostgreSQL ends a session that is idle, or whose
host is lost, for IDLE_SECONDS; then a standby relay continues from the saved position.
"""

import asyncio
import signal
import sys
from collections.abc import Sequence

from prometheus_client import Counter

from services import logs, metrics
from services.jobs.background.sinks.sqs import MAX_MESSAGES, Message, Queue, QueueUnavailable
from services.jobs.domain import states
from services.jobs.domain.records import Event
from services.jobs.settings import RelaySettings
from services.jobs.store import outbox
from services.jobs.store.database import (
    LOCK_TIMEOUT_SECONDS,
    STATEMENT_TIMEOUT_SECONDS,
    Connection,
    PostgresSession,
    begin,
    connect,
    translate,
)
from services.jobs.store.outbox import cloud_event
from services.logs import Logger
from services.metrics import Loop, Loops

MESSAGES = Counter(
    "crease_sqs_messages_total", "Messages that SQS accepted, and batches of which it accepted none", ["outcome"]
)

# An arbitrary number, unique among our advisory locks.
LOCK = 0x637265617371
IDLE_SECONDS = 7
STANDBY_SECONDS = 1.0
# Shorter than IDLE_SECONDS: a relay that waits for SQS keeps its session.
MAX_BACKOFF_SECONDS = 5.0
SESSION_OPTIONS = {
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
        log.info("sqs_relay_disabled", reason="SQS_VIDEO_ANALYSIS_QUEUE_URL is empty")
        return
    metrics.start(settings.metrics_listen, log)
    loops = Loops(relay=settings.poll_seconds)
    loops.export()
    # Nothing needs finishing: the next relay continues from the saved position.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    asyncio.run(run(settings, Queue(settings), loops["relay"], log))


async def run(settings: RelaySettings, queue: Queue, loop: Loop, log: Logger) -> None:
    """Relays in a loop. If the database is unavailable, it tries again."""
    while True:
        try:
            async with await _open(settings) as session:
                await _wait_for_lock(session, loop)
                log.info("sqs_relay_active")
                await _relay(session, queue, settings.poll_seconds, loop, log)
        except Exception as error:
            if translate(error) is None:
                raise
            log.warning("sqs_relay_standby", error=logs.error_text(error))
        await asyncio.sleep(STANDBY_SECONDS)


async def _open(settings: RelaySettings) -> PostgresSession:
    options = " ".join(f"-c {name}={value}" for name, value in SESSION_OPTIONS.items())
    return await connect(settings.database_url.get_secret_value(), options=options, application_name="crease-relay")


async def _wait_for_lock(session: PostgresSession, loop: Loop) -> None:
    """Waits until this session holds the lock, which PostgreSQL releases with the session."""
    while True:
        is_held = await Connection(session).value(f"SELECT pg_try_advisory_lock({LOCK})")
        loop.complete()
        if is_held:
            return
        await asyncio.sleep(STANDBY_SECONDS)


async def _relay(session: PostgresSession, queue: Queue, poll_seconds: float, loop: Loop, log: Logger) -> None:
    # A pass has no limit of its own: each of its calls to PostgreSQL and SQS has one.
    backoff = poll_seconds
    while True:
        connection = begin(session)
        events = await outbox.read_events(connection, await _start_position(connection))
        await connection.commit()
        try:
            await _send(session, queue, events)
        except QueueUnavailable as error:
            MESSAGES.labels("refused").inc()
            log.warning("sqs_unavailable", error=str(error), retry_seconds=round(backoff, 1))
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, MAX_BACKOFF_SECONDS)
            continue
        backoff = poll_seconds
        loop.complete()
        if len(events) < outbox.BATCH:
            await asyncio.sleep(poll_seconds)


async def _start_position(connection: Connection) -> outbox.Position:
    """The position saved by the last relay. The first relay starts at the first kept event."""
    return await outbox.get_position(connection, outbox.RELAY) or await outbox.add_reader(connection, outbox.RELAY)


async def _send(session: PostgresSession, queue: Queue, events: Sequence[Event]) -> None:
    """Sends the JobQueued events among these, and saves the position after each batch. Raises QueueUnavailable."""
    unsent = [event for event in events if event.to_status == states.QUEUED]
    while unsent:
        ids = await asyncio.to_thread(queue.send, [message(event) for event in unsent[:MAX_MESSAGES]])
        MESSAGES.labels("sent").inc(len(ids))
        sent, unsent = unsent[: len(ids)], unsent[len(ids) :]
        await _save(session, sent[-1], dict(zip((event.job_id for event in sent), ids, strict=True)))
    if events and events[-1].to_status != states.QUEUED:
        await _save(session, events[-1], {})


async def _save(session: PostgresSession, last: Event, sent: dict[object, str]) -> None:
    """Writes the message id of each job, which is no transition, and saves the position of the relay."""
    connection = begin(session)
    for job in sorted(sent, key=str):
        connection.pipeline(_SENT, job=job, message=sent[job])
    await outbox.save_position(connection, outbox.RELAY, outbox.Position(last.xid, last.id))
    await connection.commit()


_SENT = "UPDATE video_analysis_jobs SET sqs_message_id = %(message)s WHERE id = %(job)s"


def message(transition: Event) -> Message:
    """The contract's body, with the CloudEvents envelope as attributes. `ce-id` gives the order."""
    event = cloud_event(transition)
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
