"""Holds the lease of one launch: this pod's calls to `jobs` and `upload`, and the time until which they are valid.

    StartLaunch (by the pod's token) ─▶ lease ─▶ Heartbeat … Heartbeat ─▶ SubmitResult | FailLaunch
                                                     SignLaunch whenever a URL is needed

A rejection ends the lease at once. A call to an unavailable service is retried until the lease ends.
"""

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import grpc
from google.protobuf import json_format, struct_pb2

from crease.analysis.v1 import launch_pb2 as wire
from crease.analysis.v1.launch_pb2_grpc import LaunchServiceStub
from crease.jobs.v1.job_pb2 import Artifact, Stage
from crease.upload.v1.upload_pb2 import SignLaunchRequest, SignLaunchResponse
from crease.upload.v1.upload_pb2_grpc import UploadServiceStub
from services import traces
from services.analyzer.artifacts.results_json import Results
from services.analyzer.errors import Fault, LeaseLost, ServiceUnavailable

CALL_TIMEOUT_SECONDS = 10.0
# How long the end of the work waits for a heartbeat in progress.
HEARTBEAT_JOIN_TIMEOUT_SECONDS = 1.0
FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.2, 5.0
# For a call with a lease, each means that another pod has the launch, or that the launch has ended.
LEASE_LOST = frozenset(
    {grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND}
)
# Errors in our own request, for which a retry gets the same answer.
NOT_RETRYABLE = frozenset(
    {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNIMPLEMENTED}
)
Reply = TypeVar("Reply")


class LaunchLease:
    """One pod's right to report for one launch.

    Methods raise LeaseLost, ServiceUnavailable or, for an error in our request, Fault.
    """

    def __init__(
        self,
        job_id: str,
        number: int,
        *,
        jobs: grpc.Channel,
        upload: grpc.Channel,
        token_file: Path,
        patience_seconds: float,
    ) -> None:
        """patience_seconds: how long to retry StartLaunch, which has no lease yet."""
        self._launch: dict[str, Any] = {"job_id": job_id, "launch_no": number}
        self._jobs = LaunchServiceStub(jobs)
        self._upload = UploadServiceStub(upload)
        self._token_file = token_file
        self._lease = ""
        self._lease_seconds = patience_seconds
        self._ends_at = time.monotonic() + patience_seconds

    @property
    def heartbeat_interval_seconds(self) -> float:
        """The time between two heartbeats: a third of the lease."""
        return self._lease_seconds / 3

    def start(self) -> wire.StartLaunchResponse:
        """Bind the launch to this pod and take its lease."""
        token = self._token_file.read_text(encoding="utf-8").strip()
        bearer = (("authorization", f"Bearer {token}"), *traces.metadata())
        request = wire.StartLaunchRequest(**self._launch)
        sent_at = time.monotonic()
        started = self._retry(lambda: self._jobs.StartLaunch(request, metadata=bearer, timeout=CALL_TIMEOUT_SECONDS))
        self._lease = started.lease
        self._lease_seconds = started.lease_duration.ToNanoseconds() / 1e9
        self._extend(sent_at)
        return started

    def renew(self, stage: "Stage.ValueType", progress: float) -> None:
        """Send a heartbeat, which renews the lease and reports the stage's progress, 0 to 1."""
        request = wire.HeartbeatRequest(**self._launch, stage=stage, progress=progress)
        sent_at = time.monotonic()
        self._retry(lambda: self._call(self._jobs.Heartbeat, request))
        self._extend(sent_at)

    def sign(self, artifacts: list[Artifact]) -> SignLaunchResponse:
        """Signed requests to read the video and to write these artifacts, valid for some minutes."""
        request = SignLaunchRequest(**self._launch, artifacts=artifacts)
        return self._retry(lambda: self._call(self._upload.SignLaunch, request))

    def submit(
        self, stage: "Stage.ValueType", results: Results, artifacts: list[Artifact], *, more_files: bool = False
    ) -> None:
        """Publish the result of a stage; each retry sends the same request. more_files: the stage is not complete."""
        packed = json_format.ParseDict(results, struct_pb2.Struct())
        request = wire.SubmitResultRequest(
            **self._launch, stage=stage, results=packed, artifacts=artifacts, more_files=more_files
        )
        self._retry(lambda: self._call(self._jobs.SubmitResult, request))

    def fail(self, ending: "wire.Ending.ValueType", code: str, message: str) -> None:
        """Report that the launch failed, and why."""
        request = wire.FailLaunchRequest(**self._launch, ending=ending, failure_code=code, error_message=message)
        self._retry(lambda: self._call(self._jobs.FailLaunch, request))

    def _extend(self, sent_at: float) -> None:
        """Set the lease's end from the time at which the answered call was sent: `jobs` counts from a little later.

        `sent_at` is the time of the first attempt, so one call timeout ago is used if that is later.
        """
        self._ends_at = max(sent_at, time.monotonic() - CALL_TIMEOUT_SECONDS) + self._lease_seconds

    def _call(self, rpc: Callable[..., Reply], request: Any) -> Reply:
        metadata = (("authorization", f"Lease {self._lease}"), *traces.metadata())
        return rpc(request, metadata=metadata, timeout=CALL_TIMEOUT_SECONDS)

    def _retry(self, call: Callable[[], Reply]) -> Reply:
        """Call until the service answers or rejects the call, or the lease ends."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                return call()
            except grpc.RpcError as error:
                _raise_if_final(error)
                if time.monotonic() + pause > self._ends_at:
                    message = f"a service was unavailable until the lease ended: {error.details()}"
                    raise ServiceUnavailable(message) from error
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  # spreads the load on a restarted service
            pause = min(2 * pause, MAX_PAUSE_SECONDS)


class Heartbeat:
    """Sends heartbeats from a thread of its own during the block. progress() raises the fault that ended the lease."""

    def __init__(self, lease: LaunchLease, stage: "Stage.ValueType") -> None:
        self._lease = lease
        self._stage = stage
        self._progress = 0.0
        self._stopped = threading.Event()
        self._fault: Fault | None = None
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(HEARTBEAT_JOIN_TIMEOUT_SECONDS)

    def begin_stage(self, stage: "Stage.ValueType") -> None:
        """Begin a stage and report it at once, because `jobs` changes the job's status then."""
        self._stage, self._progress = stage, 0.0
        self._lease.renew(stage, 0.0)

    def progress(self, fraction: float) -> None:
        """Record the stage's progress, 0 to 1. Raises LeaseLost or ServiceUnavailable once the lease has ended."""
        self._progress = max(self._progress, min(fraction, 1.0))
        if self._fault:
            raise self._fault

    def _run(self) -> None:
        while not self._stopped.wait(self._lease.heartbeat_interval_seconds):
            try:
                self._lease.renew(self._stage, self._progress)
            except Fault as fault:
                self._fault = fault
                return
            except ValueError:
                return  # the work has ended and closed the channel during this heartbeat


def _raise_if_final(error: grpc.RpcError) -> None:
    """Raise if a retry cannot succeed; return if it may."""
    if error.code() in LEASE_LOST:
        raise LeaseLost(f"this pod has lost the launch: {error.details()}") from error
    if error.code() in NOT_RETRYABLE:
        raise Fault("REFUSED", f"a service rejected the request: {error.details()}") from error
