"""What services hear of jobs: filters, and subscriptions whose position `jobs` keeps. Real PostgreSQL and `jobs`."""

import itertools
import uuid
from contextlib import closing
from typing import Any

import grpc
import pytest

from crease.events.v1 import event_pb2, event_pb2_grpc
from crease.jobs.v1 import intake_pb2, job_pb2, session_pb2
from crease_client.client import connect
from crease_client.errors import from_rpc_error
from testing.servers.programs import Laptop, Program, running
from tests.integration.jobs.test_lifecycle import Road, code_of
from tests.integration.jobs.test_outbox import sql, wait_until

PATIENCE_SECONDS = 60
# Jobs for a session, with one JobCreated each, as quickly as PostgreSQL writes them.
MANY = """
    INSERT INTO video_analysis_jobs (session_id, status, s3_bucket, s3_key)
    SELECT %s, 'awaiting_upload', 'videos', 'k' FROM generate_series(1, %s)
"""


@pytest.fixture
def road(shared_jobs: Program, laptop: Laptop, empty: str) -> Road:
    return Road(shared_jobs.endpoint, laptop)


class Stream:
    """One stream of a service, read one event after another."""

    def __init__(
        self, stub: event_pb2_grpc.EventServiceStub, metadata: Any, *, timeout: float = PATIENCE_SECONDS, **request: Any
    ) -> None:
        self._stub = stub
        self._metadata = metadata
        self._name = request.get("subscription", "")
        self._call = stub.WatchEvents(event_pb2.WatchEventsRequest(**request), metadata=metadata, timeout=timeout)

    def take(self, count: int) -> list[event_pb2.Event]:
        """The next events, which are not acknowledged."""
        return list(itertools.islice(self._call, count))

    def acknowledge(self, events: list[event_pb2.Event]) -> None:
        ids = [event.id for event in events]
        request = event_pb2.AcknowledgeEventsRequest(subscription=self._name, event_ids=ids)
        self._stub.AcknowledgeEvents(request, metadata=self._metadata)

    def close(self) -> None:
        self._call.cancel()


@pytest.fixture
def service(laptop: Laptop) -> Any:
    return laptop.service()


def subjects(events: list[event_pb2.Event]) -> list[str]:
    return [event.subject for event in events]


def made(road: Road, owner: str, count: int = 1) -> tuple[str, list[str]]:
    """A session of an owner, and its jobs in the order of their events."""
    metadata = road.laptop.service(on_behalf_of=owner)
    session = road.sessions.CreateSession(session_pb2.CreateSessionRequest(title="Nets"), metadata=metadata)
    return session.session_id, [created(road, session.session_id) for _ in range(count)]


def created(road: Road, session_id: str) -> str:
    metadata = (*road.laptop.program("upload"), ("crease-user", road.laptop.service()[0][1].removeprefix("Bearer ")))
    request = intake_pb2.CreateJobRequest(session_id=session_id, s3_bucket="videos", content_length=10)
    return road.intake.CreateJob(request, metadata=metadata).job_id


def test_a_filter_gives_the_events_of_its_types_owner_and_session_alone(road: Road, service: Any) -> None:
    """Each alone, and all together; the events are those of the whole stream, in its order."""
    nets, [first, cancelled] = made(road, "coach:coach-1", 2)
    match, [second] = made(road, "coach:coach-1")
    _, [others] = made(road, "org:o-1")
    road.jobs.CancelJob(job_pb2.CancelJobRequest(job_id=cancelled), metadata=service)
    last = created(road, nets)
    everything = [first, cancelled, second, others, cancelled, last]
    with closing(Stream(road.events, service, after="0-0")) as stream:
        assert subjects(stream.take(6)) == everything
    for wanted, request in (
        ([cancelled], {"types": ["JobCancelled", "JobDone"]}),
        ([others], {"owner": "org:o-1"}),
        ([first, cancelled, cancelled, last], {"session_id": nets}),
        ([first, cancelled, last], {"session_id": nets, "owner": "coach:coach-1", "types": ["JobCreated"]}),
        ([second], {"session_id": match}),
    ):
        with closing(Stream(road.events, service, after="0-0", **request)) as stream:
            assert subjects(stream.take(len(wanted))) == wanted, request


def test_a_service_hears_of_its_own_owners_alone(road: Road, laptop: Laptop) -> None:
    """Of those that the settings list, of the one that it calls for, and without a filter of its own."""
    _, [coach] = made(road, "coach:coach-1")
    _, [organisation] = made(road, "org:o-1")
    _, [again] = made(road, "coach:coach-1")
    for metadata, heard in (
        (laptop.service("tutor"), [coach, again]),
        (laptop.service("club"), [organisation]),
        (laptop.service(on_behalf_of="coach:coach-1"), [coach, again]),
        (laptop.service("listener"), [coach, organisation, again]),
    ):
        with closing(Stream(road.events, metadata, after="0-0")) as stream:
            assert subjects(stream.take(len(heard))) == heard
        with closing(Stream(road.events, metadata, after="0-0", subscription=f"s-{len(heard)}-{heard[0]}")) as stream:
            assert subjects(stream.take(len(heard))) == heard


@pytest.mark.parametrize(
    ("request_", "refusal"),
    [
        ({"types": ["JobDone", "JobBegun"]}, ("INVALID_ARGUMENT", "INVALID_FIELD")),
        ({"owner": "coach-1"}, ("INVALID_ARGUMENT", "INVALID_FIELD")),
        ({"owner": "org:o-1"}, ("PERMISSION_DENIED", "OWNER_NOT_ALLOWED")),
        ({"session_id": str(uuid.UUID(int=1))}, ("NOT_FOUND", "SESSION_NOT_FOUND")),
        ({"subscription": "Reports of all"}, ("INVALID_ARGUMENT", "INVALID_FIELD")),
        ({"subscription": "reports", "after": "soon"}, ("INVALID_ARGUMENT", "INVALID_FIELD")),
    ],
    ids=str,
)
def test_an_odd_filter_is_refused(
    road: Road, laptop: Laptop, request_: dict[str, Any], refusal: tuple[str, str]
) -> None:
    """By its field, or as a right that the service lacks."""
    with pytest.raises(grpc.RpcError) as refused:
        Stream(road.events, laptop.service("tutor"), **request_).take(1)
    assert code_of(refused) == refusal


def test_a_subscription_goes_on_where_it_was_acknowledged(road: Road, service: Any) -> None:
    """A new stream gets first what the ended one did not acknowledge, then the rest; ids repeat."""
    session_id, jobs = made(road, "coach:coach-1", 4)
    with closing(Stream(road.events, service, after="0-0", subscription="reports")) as stream:
        taken = stream.take(4)
        assert subjects(taken) == jobs
        stream.acknowledge([taken[0], taken[2]])
        # Again, and an event of no stream: nothing changes.
        stream.acknowledge([taken[0], event_pb2.Event(id="1-1")])
    later = created(road, session_id)
    # `after` counts only for a new subscription.
    with closing(Stream(road.events, service, after="0-0", subscription="reports")) as stream:
        again = stream.take(3)
        assert subjects(again) == [jobs[1], jobs[3], later]
        assert [event.id for event in again[:2]] == [taken[1].id, taken[3].id]
        stream.acknowledge(again)
    last = created(road, session_id)
    with closing(Stream(road.events, service, subscription="reports")) as stream:
        assert subjects(stream.take(1)) == [last]


def test_a_stream_says_where_it_begins_before_its_first_event(road: Road, service: Any) -> None:
    """A client that begins now, and whose stream breaks before its first event, misses none."""
    session_id, _ = made(road, "coach:coach-1")
    for subscription in ("", "reports"):
        call = road.events.WatchEvents(
            event_pb2.WatchEventsRequest(subscription=subscription), metadata=service, timeout=PATIENCE_SECONDS
        )
        [begin] = [value for key, value in call.initial_metadata() if key == "crease-events-after"]
        call.cancel()
        later = created(road, session_id)
        with closing(Stream(road.events, service, after=str(begin))) as stream:
            assert subjects(stream.take(1)) == [later]


def test_the_client_package_reads_acknowledges_and_calls_for_an_owner(road: Road, shared_jobs: Program) -> None:
    """A session made for a coach is the coach's, and a second reader gets what the first did not acknowledge."""
    [(_, token)] = road.laptop.service()
    endpoint = shared_jobs.endpoint
    with connect(jobs=endpoint, upload=endpoint, token=lambda: token.removeprefix("Bearer ")) as client:
        session = client.on_behalf_of("coach:coach-1").sessions.CreateSession(session_pb2.CreateSessionRequest())
        assert (session.owner_type, session.owner_id) == ("coach", "coach-1")
        jobs = [created(road, session.session_id) for _ in range(3)]
        request = event_pb2.WatchEventsRequest(after="0-0", subscription="reports")
        read = list(itertools.islice(client.watch_events(request), 3))
        client.acknowledge("reports", read[:2])
        assert subjects(read) == jobs
        assert subjects([next(client.watch_events(request))]) == jobs[2:]


def test_a_new_subscription_without_a_position_begins_now(road: Road, service: Any) -> None:
    """As WatchEvents does; the same name of another service is another subscription."""
    session_id, [earlier] = made(road, "coach:coach-1")
    with closing(Stream(road.events, service, subscription="reports")) as stream:
        wait_until_subscribed(road, "everything")
        later = created(road, session_id)
        assert subjects(stream.take(1)) == [later]
    other = road.laptop.service("listener")
    with closing(Stream(road.events, other, after="0-0", subscription="reports")) as stream:
        assert subjects(stream.take(2)) == [earlier, later]


def wait_until_subscribed(road: Road, service: str) -> None:
    """Waits until a first stream of a service's `reports` has begun."""
    request = event_pb2.AcknowledgeEventsRequest(subscription="reports", event_ids=["1-1"])

    def code() -> grpc.StatusCode:
        acknowledged = road.events.AcknowledgeEvents.future(request, metadata=road.laptop.service(service))
        return acknowledged.code()

    wait_until(lambda: code() == grpc.StatusCode.OK)


def test_streams_of_one_subscription_share_its_events(road: Road, service: Any, empty: str) -> None:
    """Each event goes to one of them; those of a stream that ends go to the other one."""
    session_id, _ = made(road, "coach:coach-1")
    with (
        closing(Stream(road.events, service, subscription="reports")) as one,
        closing(Stream(road.events, service, subscription="reports")) as other,
    ):
        wait_until_subscribed(road, "everything")
        sql(empty, MANY, session_id, 1500)
        # One stream takes at most 1,000 before it acknowledges: the other one gets the rest.
        taken = {number: stream.take(500) for number, stream in enumerate((one, other))}
        seen = [event.id for events in taken.values() for event in events]
        assert len(set(seen)) == 1000
        other.acknowledge(taken[1])
        one.close()
        rest: list[event_pb2.Event] = []
        while len(rest) < 1000:
            more = other.take(100)
            other.acknowledge(more)
            rest += more
        assert {event.id for event in [*taken[0], *rest]} == {event.id for event in rest}
        wait_until(lambda: sql(empty, "SELECT count(*) FROM deliveries") == [(0,)])


def test_a_subscription_that_is_deleted_ends_its_streams(road: Road, service: Any) -> None:
    """The name is free again; a second deletion finds none."""
    delete = event_pb2.DeleteSubscriptionRequest(subscription="reports")
    with closing(Stream(road.events, service, subscription="reports")) as stream:
        wait_until_subscribed(road, "everything")
        with pytest.raises(grpc.RpcError) as differs:
            Stream(road.events, service, subscription="reports", types=["JobDone"]).take(1)
        assert code_of(differs) == ("FAILED_PRECONDITION", "SUBSCRIPTION_DIFFERS")
        road.events.DeleteSubscription(delete, metadata=service)
        with pytest.raises(grpc.RpcError) as ended:
            stream.take(1)
        assert code_of(ended) == ("NOT_FOUND", "SUBSCRIPTION_NOT_FOUND")
    with pytest.raises(grpc.RpcError) as deleted:
        road.events.DeleteSubscription(delete, metadata=service)
    assert code_of(deleted) == ("NOT_FOUND", "SUBSCRIPTION_NOT_FOUND")


@pytest.mark.parametrize("delivered", [0, 1])
def test_a_subscription_that_fell_behind_is_told_where_to_begin(
    road: Road, service: Any, empty: str, delivered: int
) -> None:
    """Whether the lost events were never delivered, or delivered and not acknowledged. No event is purged later."""
    session_id, _ = made(road, "coach:coach-1", 2)
    with closing(Stream(road.events, service, after="0-0", subscription="reports")) as stream:
        stream.acknowledge(stream.take(2))
    with closing(Stream(road.events, service, subscription="reports")) as stream:
        lost = created(road, session_id)
        if delivered:
            assert subjects(stream.take(1)) == [lost]
    if not delivered:
        sql(empty, "UPDATE subscriptions SET xid = 0, event_id = 0")
        sql(empty, "DELETE FROM deliveries")
    sql(empty, "UPDATE events SET created_at = now() - interval '8 days'")
    wait_until(lambda: sql(empty, "SELECT count(*) FROM events") == [(0,)])
    young = created(road, session_id)
    with pytest.raises(grpc.RpcError) as behind:
        Stream(road.events, service, subscription="reports").take(1)
    assert code_of(behind) == ("OUT_OF_RANGE", "EVENTS_PURGED")
    [(start,)] = sql(empty, "SELECT xid || '-' || id FROM event_positions WHERE name = 'purged'")
    assert f"Those after {start} are: call DeleteSubscription" in str(behind.value.details())
    assert from_rpc_error(behind.value).after == start
    road.events.DeleteSubscription(event_pb2.DeleteSubscriptionRequest(subscription="reports"), metadata=service)
    with closing(Stream(road.events, service, after=str(start), subscription="reports")) as stream:
        assert subjects(stream.take(1)) == [young]


def test_only_a_service_subscribes(road: Road) -> None:
    """The controller keeps its own position."""
    with pytest.raises(grpc.RpcError) as refused:
        Stream(road.events, road.controller, subscription="reports").take(1)
    assert code_of(refused) == ("PERMISSION_DENIED", "CALLER_NOT_ALLOWED")


@pytest.mark.slow
def test_a_service_catches_up_with_100_000_events_and_misses_none(
    jobs_env: dict[str, str], database_url: str, laptop: Laptop, tmp_path: Any
) -> None:
    """None is missing and, while its stream lives, none comes twice by its id; others write meanwhile.

    The stream breaks off twice on the way, each time with events that it has not acknowledged: those alone repeat.
    """
    written, size = 99_000, 500
    seen: dict[str, str] = {}
    repeated: list[str] = []
    unacknowledged: set[str] = set()
    with running(Program("jobs", jobs_env, tmp_path / "log")) as program:
        road, service = Road(program.endpoint, laptop), laptop.service()
        session_id, _ = made(road, "coach:coach-1")
        with closing(Stream(road.events, service, subscription="reports")):
            wait_until_subscribed(road, "everything")
        for _ in range(9):
            sql(database_url, MANY, session_id, written // 9)
        for last in (60, 120, None):
            with closing(Stream(road.events, service, subscription="reports", timeout=500)) as stream:
                for batch in itertools.count(1):
                    if batch % 50 == 0 and written < 100_000:
                        sql(database_url, MANY, session_id, size)
                        written += size
                    events = stream.take(min(size, written - len(seen)))
                    repeated += [event.id for event in events if event.id in seen]
                    seen |= {event.id: event.subject for event in events}
                    if batch == last:
                        unacknowledged |= {event.id for event in events}
                        break
                    stream.acknowledge(events)
                    if len(seen) == written == 100_000:
                        break
        expected: Any = sql(database_url, "SELECT xid || '-' || id, job_id::text FROM events ORDER BY xid, id OFFSET 1")
    assert dict(expected) == seen
    assert len(seen) == 100_000
    assert set(repeated) <= unacknowledged
    assert len(repeated) == len(set(repeated))
