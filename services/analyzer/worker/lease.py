"""The lease of one launch: what this pod says to `jobs` and `upload`, and for how long it may still say it.

    StartLaunch (by the pod's token) ─▶ lease ─▶ Heartbeat … Heartbeat ─▶ SubmitResult | FailLaunch
                                                     SignLaunch whenever a URL is needed

A refusal ends the lease at once. A service that is away is called again until the lease would have ended.
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
from services.analyzer.errors import Fault, LeaseLost, ServiceAway

CALL_SECONDS = 10.0
# How long the end of the work waits for a heartbeat on its way.
LAST_BEAT_SECONDS = 1.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 5.0
# Said of a lease, each means that somebody else has the launch or nobody may have it.
REFUSALS = frozenset(
    {grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND}
)
# Our own mistakes: the same call would be answered the same way.
MISTAKES = frozenset({grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNIMPLEMENTED})
Reply = TypeVar("Reply")


class Launch:
    """One launch of one job, as its pod sees it. Methods raise LeaseLost, ServiceAway or, for our mistakes, Fault."""

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
        """patience_seconds: how long to wait for services before there is a lease that could end."""
        self._name: dict[str, Any] = {"job_id": job_id, "launch_no": number}
        self._jobs = LaunchServiceStub(jobs)
        self._upload = UploadServiceStub(upload)
        self._token_file = token_file
        self._lease = ""
        self._lease_seconds = patience_seconds
        self._ends_at = time.monotonic() + patience_seconds

    @property
    def beat_seconds(self) -> float:
        """How often to send a heartbeat: three in the time of a lease."""
        return self._lease_seconds / 3

    def start(self) -> wire.StartLaunchResponse:
        """Bind the launch to this pod and take its lease."""
        token = self._token_file.read_text(encoding="utf-8").strip()
        bearer = (("authorization", f"Bearer {token}"), *traces.metadata())
        began = time.monotonic()
        started = self._persist(
            lambda: self._jobs.StartLaunch(wire.StartLaunchRequest(**self._name), metadata=bearer, timeout=CALL_SECONDS)
        )
        self._lease = started.lease
        self._lease_seconds = started.lease_duration.ToNanoseconds() / 1e9
        self._renewed(began)
        return started

    def beat(self, stage: "Stage.ValueType", progress: float) -> None:
        """Renew the lease and say how far the stage is."""
        asked = wire.HeartbeatRequest(**self._name, stage=stage, progress=progress)
        began = time.monotonic()
        self._persist(lambda: self._say(self._jobs.Heartbeat, asked))
        self._renewed(began)

    def sign(self, artifacts: list[Artifact]) -> SignLaunchResponse:
        """URLs to read the video and to write these artifacts, good for some minutes."""
        asked = SignLaunchRequest(**self._name, artifacts=artifacts)
        return self._persist(lambda: self._say(self._upload.SignLaunch, asked))

    def submit(self, stage: "Stage.ValueType", results: Results, artifacts: list[Artifact]) -> None:
        """Publish the result of a stage; what could not be committed is offered again, unchanged."""
        packed = json_format.ParseDict(results, struct_pb2.Struct())
        asked = wire.SubmitResultRequest(**self._name, stage=stage, results=packed, artifacts=artifacts)
        self._persist(lambda: self._say(self._jobs.SubmitResult, asked))

    def fail(self, ending: "wire.Ending.ValueType", code: str, sentence: str) -> None:
        """Give up, and say why."""
        asked = wire.FailLaunchRequest(**self._name, ending=ending, failure_code=code, error_message=sentence)
        self._persist(lambda: self._say(self._jobs.FailLaunch, asked))

    def _renewed(self, began: float) -> None:
        """Count the lease from when the answered call was sent, at the latest: `jobs` counts from a little later."""
        self._ends_at = max(began, time.monotonic() - CALL_SECONDS) + self._lease_seconds

    def _say(self, call: Callable[..., Reply], asked: Any) -> Reply:
        metadata = (("authorization", f"Lease {self._lease}"), *traces.metadata())
        return call(asked, metadata=metadata, timeout=CALL_SECONDS)

    def _persist(self, call: Callable[[], Reply]) -> Reply:
        """Call until it is answered, refused, or the lease would be over."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                return call()
            except grpc.RpcError as error:
                _judge(error)
                if time.monotonic() + pause > self._ends_at:
                    raise ServiceAway(f"a service stayed away until the lease ended: {error.details()}") from error
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  # so that a restarted service is not stormed
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


class Pulse:
    """Sends heartbeats from a thread of its own while the block runs; progress() raises what ended the lease."""

    def __init__(self, launch: Launch, stage: "Stage.ValueType") -> None:
        self._launch = launch
        self._stage = stage
        self._progress = 0.0
        self._over = threading.Event()
        self._end: Fault | None = None
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    def __enter__(self) -> "Pulse":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(LAST_BEAT_SECONDS)

    def turn(self, stage: "Stage.ValueType") -> None:
        """Begin a stage, and tell at once: `jobs` moves the job on when it hears of it."""
        self._stage, self._progress = stage, 0.0
        self._launch.beat(stage, 0.0)

    def progress(self, fraction: float) -> None:
        """Note how far the stage is, 0 to 1. Raises LeaseLost or ServiceAway once the lease is gone."""
        self._progress = max(self._progress, min(fraction, 1.0))
        if self._end:
            raise self._end

    def _run(self) -> None:
        while not self._over.wait(self._launch.beat_seconds):
            try:
                self._launch.beat(self._stage, self._progress)
            except Fault as end:
                self._end = end
                return
            except ValueError:
                return  # the channel was closed under the last beat: the work is over


def _judge(error: grpc.RpcError) -> None:
    """Raise for an answer that will not change; return where the same call may succeed later."""
    if error.code() in REFUSALS:
        raise LeaseLost(f"this launch is not ours any more: {error.details()}") from error
    if error.code() in MISTAKES:
        raise Fault("REFUSED", f"a service does not take what we say: {error.details()}") from error
