"""The fair queue on a real PostgreSQL: the order of owners, the limits, and one launch for each job."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import psycopg
import pytest

from services.jobs.domain.limits import LaunchLimits
from services.jobs.domain.records import AssignedLaunch
from services.jobs.store import fair_queue
from services.jobs.store.database import Database
from services.jobs.store.fair_queue import BATCH
from tests.integration.jobs.test_races import wait_until_waiting

NO_LIMITS = LaunchLimits()


class Queue:
    """Waiting jobs, each named after its owner and its rank in the owner's queue: `a1`, `a2`, `b1`."""

    def __init__(self, url: str) -> None:
        self.database = Database(url, 4)
        self.sql = psycopg.connect(url, autocommit=True)

    def add(self, owner: str, count: int) -> None:
        """Adds jobs that are younger than all others."""
        session = self.sql.execute(
            "INSERT INTO video_sessions (owner_type, owner_id, created_by) VALUES ('coach', %s, '') RETURNING id",
            [owner],
        ).fetchone()
        assert session
        self.sql.execute(
            "INSERT INTO video_analysis_jobs (session_id, status, s3_bucket, s3_key)"
            " SELECT %s, 'queued', 'b', %s || n FROM generate_series(1, %s) AS n",
            [session[0], owner, count],
        )

    def end(self, *names: str) -> None:
        """Ends the launches of jobs by hand, as an operator does."""
        self.sql.execute(
            "UPDATE launches SET ending = 'unknown', ended_at = now() FROM video_analysis_jobs AS job"
            " WHERE job.id = job_id AND s3_key = ANY(%s)",
            [list(names)],
        )

    def close(self, *names: str) -> None:
        """Ends the launches of jobs, and cancels the jobs."""
        self.end(*names)
        self.sql.execute("UPDATE video_analysis_jobs SET status = 'cancelled' WHERE s3_key = ANY(%s)", [list(names)])

    async def open(self, capacity: int, limits: LaunchLimits = NO_LIMITS) -> set[str]:
        """Claims launches and returns the names of their jobs."""
        async with self.opening(capacity, limits) as names:
            return names

    @asynccontextmanager
    async def opening(self, capacity: int, limits: LaunchLimits = NO_LIMITS) -> AsyncIterator[set[str]]:
        """As `open`; commits at the end of the block."""
        async with self.database.transaction() as connection:
            launches: list[AssignedLaunch] = []
            more = True
            while more and (wanted := capacity - len(launches)):
                claim = await fair_queue.claim(connection, "c1", wanted, 3600.0, limits)
                launches += claim.launches
                more = claim.more
            ids = [launch.job_id for launch in launches]
            assert len(set(ids)) == len(ids)
            yield self.names(ids)

    def names(self, ids: list[UUID]) -> set[str]:
        rows = self.sql.execute("SELECT s3_key FROM video_analysis_jobs WHERE id = ANY(%s)", [ids])
        return {name for (name,) in rows}

    def opened(self) -> int:
        row = self.sql.execute("SELECT count(*) FROM launches WHERE ended_at IS NULL").fetchone()
        assert row
        return int(row[0])


@pytest.fixture
async def queue(empty: str) -> AsyncIterator[Queue]:
    made = Queue(empty)
    yield made
    made.sql.close()
    await made.database.close()


async def test_ten_thousand_jobs_of_one_owner_do_not_delay_anothers_first(queue: Queue) -> None:
    """The second place belongs to the other owner."""
    queue.add("a", 10_000)
    queue.add("b", 2)
    assert await queue.open(2) == {"a1", "b1"}
    assert await queue.open(3) == {"a2", "b2", "a3"}


async def test_an_owner_with_open_launches_comes_after_one_without(queue: Queue) -> None:
    """Launches of earlier calls count while they are open."""
    queue.add("a", 5)
    assert await queue.open(2) == {"a1", "a2"}
    queue.add("b", 3)
    assert await queue.open(2) == {"b1", "b2"}
    queue.close("a1", "a2")
    assert await queue.open(2) == {"a3", "a4"}


def model(waiting: dict[str, list[str]], opened: dict[str, int], capacity: int) -> set[str]:
    """The definition of the order, as the docstring of fair_queue.py has it."""
    age = {name: place for place, name in enumerate(name for names in waiting.values() for name in names)}
    places = [
        (opened.get(owner, 0) + rank, age[name], name)
        for owner, names in waiting.items()
        for rank, name in enumerate(names, 1)
    ]
    return {name for _, _, name in sorted(places)[:capacity]}


@pytest.mark.parametrize(("owners", "most"), [(2, 8), (9, 8), (100, 1), (100, 2), (100, 8)])
async def test_the_order_is_the_one_of_the_definition(queue: Queue, owners: int, most: int) -> None:
    """For queues and capacities of any size, whether or not the oldest jobs belong to enough owners."""
    dice = random.Random(owners + most)
    waiting: dict[str, list[str]] = {}
    for number in range(owners):
        owner, count = f"{chr(97 + dice.randrange(26))}{number}-", dice.randrange(1, most + 1)
        queue.add(owner, count)
        waiting[owner] = [f"{owner}{rank}" for rank in range(1, count + 1)]
    opened: dict[str, int] = {}
    for capacity in (1, 7, 2, BATCH, 1):
        expected = model(waiting, opened, capacity)
        assert await queue.open(capacity) == expected
        for owner, names in waiting.items():
            opened[owner] = opened.get(owner, 0) + len(expected.intersection(names))
            waiting[owner] = [name for name in names if name not in expected]


async def test_more_than_one_batch_is_claimed_by_one_call(queue: Queue) -> None:
    """jobs claims batches until the capacity is reached."""
    queue.add("a", 3 * BATCH)
    assert len(await queue.open(2 * BATCH + 1)) == 2 * BATCH + 1
    assert len(await queue.open(1000)) == BATCH - 1


async def test_a_job_in_backoff_does_not_delay_its_owners_next_job(queue: Queue) -> None:
    """Backoff concerns the job alone."""
    queue.add("a", 2)
    queue.sql.execute("UPDATE video_analysis_jobs SET not_before = now() + interval '1 minute' WHERE s3_key = 'a1'")
    assert await queue.open(5) == {"a2"}


async def test_a_launch_ended_or_deleted_by_hand_makes_its_job_wait_again(queue: Queue) -> None:
    """Triggers keep `launched`, for every writer."""
    queue.add("a", 1)
    assert await queue.open(1) == {"a1"}
    assert await queue.open(1) == set()
    queue.end("a1")
    assert await queue.open(1) == {"a1"}
    queue.sql.execute("DELETE FROM launches")
    assert await queue.open(1) == {"a1"}


async def test_jobs_that_another_transaction_claims_are_skipped_without_waiting(queue: Queue) -> None:
    """Two transactions at once claim different jobs."""
    queue.add("a", 6)
    async with queue.opening(3) as first, asyncio.timeout(4):
        second = await queue.open(3)
    assert (first, second) == ({"a1", "a2", "a3"}, {"a4", "a5", "a6"})


async def test_callers_at_once_never_open_two_for_one_job(queue: Queue) -> None:
    """Four connections empty one queue: each job is claimed once, and no call fails."""
    for number in range(10):
        queue.add(f"o{number}-", 20)
    taken: list[set[str]] = []

    async def draw() -> None:
        while names := await queue.open(3):
            taken.append(names)

    await asyncio.gather(*(draw() for _ in range(4)))
    while names := await queue.open(3):
        taken.append(names)
    assert sum(map(len, taken)) == len(set().union(*taken)) == queue.opened() == 200


async def test_a_claim_that_began_before_another_committed_takes_other_jobs(
    queue: Queue, empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its snapshot shows the jobs as waiting, and nobody holds them any more when it locks them."""
    queue.add("a", 3)
    locking = "WHERE job.status = 'queued'"
    assert fair_queue._CLAIM.count(locking) == 1
    paused = fair_queue._CLAIM.replace(locking, f"{locking} AND (SELECT pg_advisory_xact_lock(1)) IS NOT NULL")
    queue.sql.execute("SELECT pg_advisory_lock(1)")
    with monkeypatch.context() as patch:
        patch.setattr(fair_queue, "_CLAIM", paused)
        late = asyncio.create_task(queue.open(2))
        await asyncio.to_thread(wait_until_waiting, empty, 1)
    assert await queue.open(2) == {"a1", "a2"}
    queue.sql.execute("SELECT pg_advisory_unlock(1)")
    assert await late == {"a3"}


async def test_an_owner_opens_no_more_than_the_limit(queue: Queue) -> None:
    """Other owners are not affected; the end of a launch allows one more."""
    queue.add("a", 5)
    queue.add("b", 1)
    limits = LaunchLimits(per_owner=2)
    assert await queue.open(10, limits) == {"a1", "a2", "b1"}
    assert await queue.open(10, limits) == set()
    queue.close("a1")
    assert await queue.open(10, limits) == {"a3"}


@pytest.mark.parametrize("limits", [LaunchLimits(total=5), LaunchLimits(per_owner=5)])
async def test_callers_at_once_do_not_pass_a_limit_together(queue: Queue, limits: LaunchLimits) -> None:
    """A lock makes counting and claiming one step."""
    queue.add("a", 40)
    opened = await asyncio.gather(*(queue.open(3, limits) for _ in range(4)))
    assert (sum(map(len, opened)), queue.opened()) == (5, 5)
