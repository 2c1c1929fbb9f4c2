"""Decides whether a broken stream is opened again, and from where on."""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from crease.events.v1.event_pb2 import AcknowledgeEventsRequest, Event, WatchEventsRequest
from crease.jobs.v1.job_pb2 import JOB_STATUS_CANCELLED, JOB_STATUS_DONE, JOB_STATUS_FAILED, Job, WatchJobRequest
from crease_client.errors import JobCancelled, JobFailed, RpcError, Unavailable
from crease_client.reasons import Reason

FINAL = (JOB_STATUS_DONE, JOB_STATUS_FAILED, JOB_STATUS_CANCELLED)
# How long a service may be unavailable while the client follows a stream. The analyses themselves need no client.
PATIENCE_SECONDS = 60.0
RECONNECT_SECONDS = 0.5
# A stream that had begun is opened again after these: with a newer token, and by a reader that catches up.
RESUMABLE = (Reason.UNAUTHENTICATED, Reason.SLOW_READER)
# The initial metadata of WatchEvents: the position at which the stream begins.
EVENTS_AFTER = "crease-events-after"
# The most ids in one AcknowledgeEvents.
MAX_ACKNOWLEDGED = 1000

RequestT = TypeVar("RequestT", WatchJobRequest, WatchEventsRequest)
MessageT = TypeVar("MessageT", Job, Event)


class Reconnection(Generic[RequestT, MessageT]):
    """One reader of one stream, which is opened again and again with `request`.

    `reconnecting` is called before each further attempt.
    """

    def __init__(
        self, request: RequestT, patience_seconds: float, reconnecting: Callable[[], None] = lambda: None
    ) -> None:
        self.request: RequestT = request
        self._patience_seconds = patience_seconds
        self._reconnecting = reconnecting
        self._down_since = time.monotonic()
        self._has_replied = False

    @contextlib.contextmanager
    def one_stream(self, stream: Any) -> Iterator[None]:
        """Reads one stream in the block. Returns if another one is to be opened, else raises RpcError."""
        self._has_replied = False
        # A stream that ends without an error: its server stopped.
        failure: RpcError | None = None
        try:
            yield
        except RpcError as error:
            failure = error
        finally:
            stream.cancel()
        self._reconnecting()
        if failure is not None and not self._is_resumable(failure):
            raise failure
        now = time.monotonic()
        if self._has_replied:
            self._down_since = now
        if now - self._down_since > self._patience_seconds:
            raise failure or Unavailable("The stream ended again and again without a message")

    def begun(self, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """The initial metadata of the stream arrived; a rejected stream has none of its own."""

    def received(self, message: MessageT) -> bool:
        """A message arrived. Returns whether it is the last one."""
        self._has_replied = True
        return False

    def _is_resumable(self, error: RpcError) -> bool:
        # An error without a reason came from the channel or a proxy, not from the service.
        return isinstance(error, Unavailable) or (self._has_replied and error.reason in ("", *RESUMABLE))


class JobReconnection(Reconnection[WatchJobRequest, Job]):
    """Follows a job until it is final. Each stream begins with the job as it is."""

    def received(self, message: Job) -> bool:
        super().received(message)
        return message.status in FINAL


class EventReconnection(Reconnection[WatchEventsRequest, Event]):
    """Follows events without an end. Without a subscription, each stream begins after the last event received."""

    def begun(self, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        for key, value in metadata:
            if key == EVENTS_AFTER:
                self._has_replied = True
                self._continue_after(str(value))

    def received(self, message: Event) -> bool:
        self._continue_after(message.id)
        return super().received(message)

    def _continue_after(self, position: str) -> None:
        if not self.request.subscription:
            self.request.after = position


def acknowledgements(subscription: str, events: Iterable[Event]) -> Iterator[AcknowledgeEventsRequest]:
    """The requests that finish events: each names at most as many as jobs takes."""
    ids = [event.id for event in events]
    for first in range(0, len(ids), MAX_ACKNOWLEDGED):
        yield AcknowledgeEventsRequest(subscription=subscription, event_ids=ids[first : first + MAX_ACKNOWLEDGED])


def check_done(job: Job) -> Job:
    """The final job, if it is done. Raises JobFailed, JobCancelled."""
    if job.status == JOB_STATUS_CANCELLED:
        raise JobCancelled(f"Job {job.job_id} was cancelled", job)
    if job.status == JOB_STATUS_FAILED:
        raise JobFailed(job.error_message.rstrip(".") or f"Job {job.job_id} failed without a message", job)
    return job
