"""`python -m services.jobs relay`: sends each JobQueued event to SQS, and each event to a second queue, if configured.

Each queue has a feed of its own, in order, at least once:

    standby ──(the lock is free)──▶ active: read ─▶ send ─▶ save position ─▶ read …
       ▲                               │
       └──────(the session ends)───────┘

The relay is optional: without SQS, as on a laptop, `WatchEvents` and the controller's polling find each queued job.
Events are not purged until the relay has sent them; if no relay runs, `expiry` logs the lag.

One relay is active for each queue: its session holds an advisory lock, and it reads and writes through that session.
The relay therefore needs its own connections to PostgreSQL, without a pooler. PostgreSQL ends a session that is idle,
or whose host is lost, for IDLE_SECONDS; then a standby relay continues from the saved position.
"""

import asyncio
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from google.protobuf import json_format
from prometheus_client import Counter

from services import logs, metrics
from services.jobs.background.sinks.sqs import MAX_MESSAGES, Message, Queue, QueueUnavailable
from services.jobs.domain import states
from services.jobs.domain.records import Event
from services.jobs.settings import RelaySettings
from services.jobs.store.database import (
    LOCK_TIMEOUT_SECONDS,
    STATEMENT_TIMEOUT_SECONDS,
    Connection,
    PostgresSession,
    begin,
    connect,
    translate,
)
from services.jobs.store.events import outbox
from services.jobs.store.events.outbox import cloud_event
from services.logs import Logger
from services.metrics import Loop, Loops

MESSAGES = Counter(
    "crease_sqs_messages_total", "Messages that SQS accepted, and batches of which it accepted none", ["outcome"]
)

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


@dataclass(frozen=True)
class Feed:
    """What one queue gets. `position`: its name in event_positions. `lock`: unique among our advisory locks.

    `keeps_ids`: whether a job's row keeps the id of its last message.
    """

    position: str
    lock: int
    takes: Callable[[Event], bool]
    message: Callable[[Event], Message]
    keeps_ids: bool


def main() -> None:
    settings = RelaySettings.load()
    log = logs.configure("relay", settings.log_level)
    queues = {
        name: (feed, url)
        for name, feed, url in (
            ("relay", QUEUED, settings.queue_url),
            ("relay_of_all", EVERY_EVENT, settings.events_queue_url),
        )
        if url
    }
    if not queues:
        log.info("sqs_relay_disabled", reason="SQS_VIDEO_ANALYSIS_QUEUE_URL and CREASE_EVENTS_QUEUE_URL are empty")
        return
    metrics.start(settings.metrics_listen, log)
    loops = Loops(**dict.fromkeys(queues, settings.poll_seconds))
    loops.export()
    # Nothing needs finishing: the next relay continues from the saved position.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    asyncio.run(_run_all(settings, queues, loops, log))


async def _run_all(settings: RelaySettings, queues: dict[str, tuple[Feed, str]], loops: Loops, log: Logger) -> None:
    async with asyncio.TaskGroup() as group:
        for name, (feed, url) in queues.items():
            group.create_task(run(settings, feed, Queue(url, settings), loops[name], log.bind(feed=feed.position)))


async def run(settings: RelaySettings, feed: Feed, queue: Queue, loop: Loop, log: Logger) -> None:
    """Relays one feed in a loop. If the database is unavailable, it tries again."""
    while True:
        try:
            async with await _open(settings) as session:
                await _wait_for_lock(session, feed, loop)
                log.info("sqs_relay_active")
                await _relay(session, feed, queue, settings.poll_seconds, loop, log)
        except Exception as error:
            if translate(error) is None:
                raise
            log.warning("sqs_relay_standby", error=logs.error_text(error))
        await asyncio.sleep(STANDBY_SECONDS)


async def _open(settings: RelaySettings) -> PostgresSession:
    options = " ".join(f"-c {name}={value}" for name, value in SESSION_OPTIONS.items())
    return await connect(settings.database_url.get_secret_value(), options=options, application_name="crease-relay")


async def _wait_for_lock(session: PostgresSession, feed: Feed, loop: Loop) -> None:
    """Waits until this session holds the lock, which PostgreSQL releases with the session."""
    while True:
        is_held = await Connection(session).value(f"SELECT pg_try_advisory_lock({feed.lock})")
        loop.complete()
        if is_held:
            return
        await asyncio.sleep(STANDBY_SECONDS)


async def _relay(
    session: PostgresSession, feed: Feed, queue: Queue, poll_seconds: float, loop: Loop, log: Logger
) -> None:
    # A pass has no limit of its own: each of its calls to PostgreSQL and SQS has one.
    backoff = poll_seconds
    while True:
        connection = begin(session)
        events = await outbox.read_events(connection, await _start_position(connection, feed))
        await connection.commit()
        try:
            await _send(session, feed, queue, events)
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


async def _start_position(connection: Connection, feed: Feed) -> outbox.Position:
    """The position saved by the last relay. The first relay starts at the first kept event."""
    return await outbox.get_position(connection, feed.position) or await outbox.add_reader(connection, feed.position)


async def _send(session: PostgresSession, feed: Feed, queue: Queue, events: Sequence[Event]) -> None:
    """Sends the feed's events among these, and saves the position after each batch. Raises QueueUnavailable."""
    unsent = [event for event in events if feed.takes(event)]
    while unsent:
        ids = await asyncio.to_thread(queue.send, [feed.message(event) for event in unsent[:MAX_MESSAGES]])
        MESSAGES.labels("sent").inc(len(ids))
        sent, unsent = unsent[: len(ids)], unsent[len(ids) :]
        kept = dict(zip((event.job_id for event in sent), ids, strict=True)) if feed.keeps_ids else {}
        await _save(session, feed, sent[-1], kept)
    if events and not feed.takes(events[-1]):
        await _save(session, feed, events[-1], {})


async def _save(session: PostgresSession, feed: Feed, last: Event, sent: dict[UUID, str]) -> None:
    """Writes the message id of each job, which is no transition, and saves the position of the feed."""
    connection = begin(session)
    for job in sorted(sent, key=str):
        connection.pipeline(_SENT, job=job, message=sent[job])
    await outbox.save_position(connection, feed.position, outbox.Position(last.xid, last.id))
    await connection.commit()


_SENT = "UPDATE video_analysis_jobs SET sqs_message_id = %(message)s WHERE id = %(job)s"


def is_queued(event: Event) -> bool:
    """Whether the first queue gets an event."""
    return event.to_status == states.QUEUED


def queued_message(transition: Event) -> Message:
    """The contract's body of JobQueued, with the CloudEvents envelope as attributes. `ce-id` gives the order."""
    data = cloud_event(transition).data
    body = {
        "job_id": data.job_id,
        "session_id": data.session_id,
        "sample_fps": data.sample_fps,
        "include_frames": data.include_frames,
    }
    return Message(body, _envelope(transition))


def event_message(transition: Event) -> Message:
    """The JobTransition of an event as JSON, with the same envelope."""
    data = cloud_event(transition).data
    body = json_format.MessageToDict(data, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    return Message(body, _envelope(transition))


def _envelope(transition: Event) -> dict[str, str]:
    event = cloud_event(transition)
    return {
        "ce-id": event.id,
        "ce-source": event.source,
        "ce-specversion": event.specversion,
        "ce-type": event.type,
        "ce-subject": event.subject,
        "ce-time": event.time.ToJsonString(),
        "content-type": "application/json",
    }


QUEUED = Feed(outbox.RELAY, 0x637265617371, is_queued, queued_message, keeps_ids=True)
EVERY_EVENT = Feed(outbox.RELAY_OF_ALL, 0x637265617372, lambda _: True, event_message, keeps_ids=False)
