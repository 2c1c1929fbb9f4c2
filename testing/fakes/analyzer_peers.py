"""Fakes `jobs`, `upload` and S3 for one analyzer: small servers on real ports, with configurable failures."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration

from crease.analysis.v1 import launch_pb2 as wire
from crease.analysis.v1.launch_pb2_grpc import LaunchServiceServicer, add_LaunchServiceServicer_to_server
from crease.jobs.v1.job_pb2 import Job, Stage, VideoObject
from crease.jobs.v1.session_pb2 import Discipline, Session
from crease.upload.v1.upload_pb2 import SignedRequest, SignLaunchRequest, SignLaunchResponse
from crease.upload.v1.upload_pb2_grpc import UploadServiceServicer, add_UploadServiceServicer_to_server

TOKEN, LEASE = "pod-token", "lease-secret"
Answer = tuple[int, bytes]


@dataclass
class Services:
    """The state of the fakes: their data, the calls they received and the failures they simulate.

    faults: by RPC, gRPC codes that answer the first calls. refusals: by RPC, a gRPC code that answers every call.
    get, put: HTTP answers to the first requests.
    """

    video: bytes = b"video"
    stage: "Stage.ValueType" = Stage.STAGE_QUICK
    deep_enabled: bool = True
    lease_seconds: float = 3.0
    content_length: int | None = None
    faults: dict[str, list[grpc.StatusCode]] = field(default_factory=dict)
    refusals: dict[str, grpc.StatusCode] = field(default_factory=dict)
    get: list[Answer] = field(default_factory=list)
    # The answers to a GET of the source job's landmarks.
    landmarks: list[Answer] = field(default_factory=list)
    source_job_id: str = ""
    put: list[Answer] = field(default_factory=list)
    calls: list[tuple[str, Any]] = field(default_factory=list)
    stored: dict[str, bytes] = field(default_factory=dict)
    jobs_endpoint: str = ""
    s3: str = ""

    def environment(self, token_file: Path) -> dict[str, str]:
        """The environment variables with which a pod's program finds the fakes."""
        return {
            "CREASE_JOBS_ENDPOINT": self.jobs_endpoint,
            "CREASE_UPLOAD_ENDPOINT": self.jobs_endpoint,
            "CREASE_TOKEN_FILE": str(token_file),
            "CREASE_ACCELERATOR": "cpu",
        }

    def called(self, name: str) -> list[Any]:
        """The requests of one RPC, in order."""
        return [request for rpc, request in self.calls if rpc == name]

    def record(self, name: str, request: Any, context: grpc.ServicerContext, authorization: str) -> None:
        """Record a call; abort it with a configured failure, or if its authorization is wrong."""
        self.calls.append((name, request))
        if codes := self.faults.get(name):
            context.abort(codes.pop(0), "a transient fault")
        if name in self.refusals:
            context.abort(self.refusals[name], "a configured refusal")
        if dict(context.invocation_metadata()).get("authorization") != authorization:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "wrong authorization")


class _Launches(LaunchServiceServicer):
    def __init__(self, services: Services) -> None:
        self.services = services

    def StartLaunch(self, request: Any, context: grpc.ServicerContext) -> wire.StartLaunchResponse:
        self.services.record("StartLaunch", request, context, f"Bearer {TOKEN}")
        length = self.services.content_length
        video = VideoObject(
            s3_key="coach_plus/coach/c/s/v/original.mp4",
            content_length=len(self.services.video) if length is None else length,
        )
        job = Job(job_id=request.job_id, sample_fps=10, deep_enabled=self.services.deep_enabled, video=video)
        job.source_job_id = self.services.source_job_id
        duration = Duration()
        duration.FromMilliseconds(int(self.services.lease_seconds * 1000))
        return wire.StartLaunchResponse(
            lease=LEASE,
            lease_duration=duration,
            stage=self.services.stage,
            job=job,
            session=Session(session_id="s", title="Nets", discipline=Discipline.DISCIPLINE_BATTING),
        )

    def Heartbeat(self, request: Any, context: grpc.ServicerContext) -> wire.HeartbeatResponse:
        self.services.record("Heartbeat", request, context, f"Lease {LEASE}")
        return wire.HeartbeatResponse()

    def SubmitResult(self, request: Any, context: grpc.ServicerContext) -> wire.SubmitResultResponse:
        self.services.record("SubmitResult", request, context, f"Lease {LEASE}")
        return wire.SubmitResultResponse()

    def FailLaunch(self, request: Any, context: grpc.ServicerContext) -> wire.FailLaunchResponse:
        self.services.record("FailLaunch", request, context, f"Lease {LEASE}")
        return wire.FailLaunchResponse()


class _Uploads(UploadServiceServicer):
    def __init__(self, services: Services) -> None:
        self.services = services

    def SignLaunch(self, request: SignLaunchRequest, context: grpc.ServicerContext) -> SignLaunchResponse:
        self.services.record("SignLaunch", request, context, f"Lease {LEASE}")
        root = self.services.s3
        return SignLaunchResponse(
            video=SignedRequest(method="GET", url=f"{root}/original.mp4", headers={"If-Match": "etag"}),
            landmarks=SignedRequest(method="GET", url=f"{root}/landmarks.npz") if self.services.landmarks else None,
            artifacts=[
                SignedRequest(
                    method="PUT",
                    url=f"{root}/{Stage.Name(artifact.stage)}/{artifact.name}",
                    headers={"Content-Type": artifact.content_type, "Content-Length": str(artifact.content_length)},
                )
                for artifact in request.artifacts
            ],
        )


def _s3(services: Services) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path == "/landmarks.npz":
                self._answer(*services.landmarks[0])
                return
            matches = self.headers["If-Match"] == "etag"
            self._answer(*(services.get.pop(0) if services.get else (200, services.video) if matches else (412, b"")))

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, answer = services.put.pop(0) if services.put else (200, b"")
            if status == 200:
                services.stored[self.path.lstrip("/")] = body
            self._answer(status, answer)

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)


@contextmanager
def serving(services: Services) -> Iterator[Services]:
    """Serve the fakes on free ports during the block."""
    server = grpc.server(ThreadPoolExecutor(8))
    # The fakes implement a pod's RPCs only; gRPC answers the others with UNIMPLEMENTED.
    add_LaunchServiceServicer_to_server(_Launches(services), server)  # type: ignore[abstract]
    add_UploadServiceServicer_to_server(_Uploads(services), server)  # type: ignore[abstract]

    services.jobs_endpoint = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    web = _s3(services)
    services.s3 = f"http://127.0.0.1:{web.server_address[1]}"
    threading.Thread(target=web.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield services
    finally:
        web.shutdown()
        web.server_close()
        server.stop(0).wait()
