"""`python -m services.jobs relay`: sends each JobQueued to SQS, in the order of events, at least once.

standby ──(nobody else holds the lock)──▶ active: read ─▶ send ─▶ record ─▶ read …
   ▲                                        │
   └──────────(its session is lost)─────────┘

One relay is active: the one whose session holds an advisory lock, and it reads and records through that session. So it
needs a connection of its own to PostgreSQL, not one that a pooler shares. The server ends a session that says nothing
for IDLE_SECONDS, and one whose host is gone as soon; another relay then goes on from what was recorded last.
"""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from services import logs
from services.jobs import events, messages, states
from services.jobs.database import LOCK_TIMEOUT_SECONDS, STATEMENT_TIMEOUT_SECONDS, translate, url
from services.jobs.schema import jobs
from services.jobs.settings import RelaySettings
from services.jobs.sqs import MAX_MESSAGES, Message, Queue, QueueAway
from services.logs import Logger

NAME = "sqs"
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
    # Whenever it ends, the next one goes on: there is nothing to finish.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    asyncio.run(run(settings, Queue(settings), log))


async def run(settings: RelaySettings, queue: Queue, log: Logger) -> None:
    """Relays for ever. A database that is away is tried again."""
    engine = _open_engine(settings)
    while True:
        try:
            async with _turn(engine) as connection:
                log.info("active")
                await _relay(connection, queue, settings.poll_seconds, log)
        except Exception as error:
            if translate(error) is None:
                raise
            log.warning("standing by", error=str(error).splitlines()[0])
        await asyncio.sleep(STANDBY_SECONDS)


def _open_engine(settings: RelaySettings) -> AsyncEngine:
    options = " ".join(f"-c {name}={value}" for name, value in SESSION.items())
    arguments = {"options": options, "connect_timeout": 5, "application_name": "crease-relay"}
    target = url(settings.database_url.get_secret_value())
    return create_async_engine(target, poolclass=sa.NullPool, connect_args=arguments)


@contextlib.asynccontextmanager
async def _turn(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """The session that holds the lock, once no other does; the lock goes with it."""
    async with engine.connect() as connection:
        while not await connection.scalar(sa.select(sa.func.pg_try_advisory_lock(LOCK))):
            await connection.commit()
            await asyncio.sleep(STANDBY_SECONDS)
        await connection.commit()
        yield connection


async def _relay(connection: AsyncConnection, queue: Queue, poll_seconds: float, log: Logger) -> None:
    backoff = poll_seconds
    while True:
        async with connection.begin():
            rows = await events.read(connection, await _position(connection))
        try:
            await _send(connection, queue, rows)
        except QueueAway as away:
            log.warning("SQS is away", error=str(away), again_seconds=round(backoff, 1))
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, LONGEST_BACKOFF_SECONDS)
            continue
        backoff = poll_seconds
        if len(rows) < events.BATCH:
            await asyncio.sleep(poll_seconds)


async def _position(connection: AsyncConnection) -> events.Position:
    """Where the last relay stopped; at first, before all that is kept, so that a job from before it is sent too."""
    return await events.position(connection, NAME) or await events.hold(connection, NAME)


async def _send(connection: AsyncConnection, queue: Queue, rows: Sequence[events.Row]) -> None:
    """Sends what of these events is for SQS, and records after each batch. Raises QueueAway."""
    waiting = [row for row in rows if row["to_status"] == states.QUEUED]
    while waiting:
        ids = await asyncio.to_thread(queue.send, [message(row) for row in waiting[:MAX_MESSAGES]])
        sent, waiting = waiting[: len(ids)], waiting[len(ids) :]
        await _record(connection, sent[-1], dict(zip((row["job_id"] for row in sent), ids, strict=True)))
    if rows and rows[-1]["to_status"] != states.QUEUED:
        await _record(connection, rows[-1], {})


async def _record(connection: AsyncConnection, last: events.Row, sent: dict[object, str]) -> None:
    """Writes each job's message id beside it, which is no transition, and where the relay stands now."""
    found = sa.update(jobs).where(jobs.c.id == sa.bindparam("job")).values(sqs_message_id=sa.bindparam("message"))
    async with connection.begin():
        if sent:
            await connection.execute(found, [{"job": job, "message": sent[job]} for job in sorted(sent, key=str)])
        await events.move(connection, NAME, events.Position(last["xid"], last["id"]))


def message(row: events.Row) -> Message:
    """The body as consumers know it, and the CloudEvents envelope as attributes; `ce-id` says the order."""
    event = messages.event(row)
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
