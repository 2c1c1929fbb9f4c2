"""Decides whether a broken stream is opened again."""

import time

from crease.jobs.v1.job_pb2 import JOB_STATUS_CANCELLED, JOB_STATUS_DONE, JOB_STATUS_FAILED, Job
from crease_client.errors import JobCancelled, JobFailed, RpcError, Unavailable
from crease_client.reasons import Reason

FINAL = (JOB_STATUS_DONE, JOB_STATUS_FAILED, JOB_STATUS_CANCELLED)
# How long a service may be unavailable while the client follows a job. The analysis itself needs no client.
PATIENCE_SECONDS = 60.0
RECONNECT_SECONDS = 0.5
# A stream that had begun is opened again after these: with a newer token, and by a reader that catches up.
RESUMABLE = (Reason.UNAUTHENTICATED, Reason.SLOW_READER)


class Reconnection:
    """The patience of one reader with one stream that it opens again and again."""

    def __init__(self, patience_seconds: float) -> None:
        self._patience_seconds = patience_seconds
        self._last_reply = time.monotonic()
        self._has_replied = False

    def opening(self) -> None:
        """A stream is opened."""
        self._has_replied = False

    def received(self) -> None:
        """A message arrived."""
        self._last_reply, self._has_replied = time.monotonic(), True

    def check(self, error: RpcError | None) -> None:
        """Returns if the stream is to be opened again, else raises. None: it ended, because its server stopped."""
        if error is not None and not self._is_resumable(error):
            raise error
        if time.monotonic() - self._last_reply > self._patience_seconds:
            raise error or Unavailable("The stream ended again and again without a message")

    def _is_resumable(self, error: RpcError) -> bool:
        # An error without a reason came from the channel or a proxy, not from the service.
        return isinstance(error, Unavailable) or (self._has_replied and error.reason in ("", *RESUMABLE))


def check_done(job: Job) -> Job:
    """The final job, if it is done. Raises JobFailed, JobCancelled."""
    if job.status == JOB_STATUS_CANCELLED:
        raise JobCancelled(f"Job {job.job_id} was cancelled", job)
    if job.status == JOB_STATUS_FAILED:
        raise JobFailed(job.error_message.rstrip(".") or f"Job {job.job_id} failed without a message", job)
    return job
