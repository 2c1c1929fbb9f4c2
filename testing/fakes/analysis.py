"""An analysis without an analyzer: the calls of a controller and a pod, with results that a test states."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import urllib3
from google.protobuf import json_format, struct_pb2

from crease.analysis.v1 import launch_pb2
from crease.jobs.v1 import job_pb2, session_pb2
from crease.upload.v1 import upload_pb2
from testing.servers.product import SAMPLE, Product
from testing.servers.programs import lease

TYPES = {"html": "text/html; charset=utf-8", "mp4": "video/mp4", "json": "application/json"}
REPORT = b"<p>report"
FINDING = {
    "code": "KNEE_COLLAPSE",
    "severity": "high",
    "title": "The front knee gives way",
    "why": "A knee that bends at contact takes the power out of the shot.",
    "cues": ["Push the ground away"],
    "drills": [{"name": "Wall push", "how": "Push a wall with the front leg straight.", "dose": "3 sets of 8"}],
    "time_seconds": 1.65,
}
RESULTS: dict[str, Any] = {
    "pose": {
        "pose_summary": {
            "video_fps": 30.0,
            "events": [
                {"name": "front_foot_contact", "time_seconds": 1.38, "confidence": 0.8},
                {"name": "fastest_hands", "time_seconds": 1.65, "confidence": 0.9},
            ],
        }
    },
    "metrics": {},
    "findings": {"overall_level": "medium", "not_assessed_reason": None, "findings": [FINDING]},
    "report": {"summary": "In one stroke, the front knee falls short of its mark.", "drills": FINDING["drills"]},
}


@dataclass
class Analysis:
    """One launch that has started."""

    product: Product
    launch: launch_pb2.Launch
    secret: str

    @classmethod
    def start(cls, product: Product) -> "Analysis":
        """Opens the launch of the only queued job, and starts it."""
        [launch] = product.open_launches()
        confirm = launch_pb2.ConfirmLaunchRequest(job_id=launch.job_id, launch_no=launch.launch_no, kubernetes_uid="u")
        product.launch_stub.ConfirmLaunch(confirm, metadata=product.laptop.program("controller"))
        pod = product.laptop.pod(f"analysis-{launch.job_id}-{launch.launch_no}-aaaaa", "pod")
        started = product.launch_stub.StartLaunch(
            launch_pb2.StartLaunchRequest(job_id=launch.job_id, launch_no=launch.launch_no), metadata=pod
        )
        return cls(product, launch, started.lease)

    def beat(self, stage: "job_pb2.Stage.ValueType", progress: float) -> None:
        """Reports progress, 0 to 1."""
        self.product.launch_stub.Heartbeat(
            launch_pb2.HeartbeatRequest(
                job_id=self.launch.job_id, launch_no=self.launch.launch_no, stage=stage, progress=progress
            ),
            metadata=lease(self.secret),
        )

    def submit(self, stage: "job_pb2.Stage.ValueType", results: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        """Stores the files and submits the results of a stage."""
        artifacts = [
            job_pb2.Artifact(
                name=name, stage=stage, content_type=TYPES[name.rpartition(".")[2]], content_length=len(content)
            )
            for name, content in files.items()
        ]
        of_launch: dict[str, Any] = {"job_id": self.launch.job_id, "launch_no": self.launch.launch_no}
        signed = self.product.upload_stub.SignLaunch(
            upload_pb2.SignLaunchRequest(**of_launch, artifacts=artifacts), metadata=lease(self.secret)
        )
        for artifact, put in zip(artifacts, signed.artifacts, strict=True):
            reply = urllib3.request("PUT", put.url, body=files[artifact.name], headers=dict(put.headers))
            assert reply.status == 200, reply.data
        self.product.launch_stub.SubmitResult(
            launch_pb2.SubmitResultRequest(
                **of_launch,
                stage=stage,
                results=json_format.ParseDict(dict(results), struct_pb2.Struct()),
                artifacts=artifacts,
            ),
            metadata=lease(self.secret),
        )


def analysed(
    product: Product,
    title: str,
    players: Sequence[str],
    results: Mapping[str, Any] = RESULTS,
    report: bytes = REPORT,
) -> job_pb2.Job:
    """A finished job of a session of its own."""
    request = session_pb2.CreateSessionRequest(
        title=title, player_ids=players, camera_view=session_pb2.CAMERA_VIEW_SIDE
    )
    session = product.session_stub.CreateSession(request, metadata=product.coach)
    job_id = product.uploaded(SAMPLE.read_bytes(), session_id=session.session_id)
    finish(product, results, report)
    return product.job(job_id)


def finish(product: Product, results: Mapping[str, Any] = RESULTS, report: bytes = REPORT) -> None:
    """Analyses the only queued job to its end."""
    analysis = Analysis.start(product)
    for stage in (job_pb2.STAGE_QUICK, job_pb2.STAGE_DEEP):
        analysis.submit(stage, results, {"report.html": report, "overlay.mp4": SAMPLE.read_bytes()})


def with_knee(value: float) -> dict[str, Any]:
    """Results with one number, its error and its mark."""
    number = {"value": value, "unit": "deg", "score": 0.5, "confidence": 0.9, "plane": "image", "frames_used": 9}
    summary = {"errors": {"front_knee_brace_score": 3.0}, "marks": {"front_knee_brace_score": 160.0}}
    return RESULTS | {
        "pose": {"pose_summary": {**RESULTS["pose"]["pose_summary"], **summary}},
        "metrics": {"front_knee_brace_score": number | {"evidence": [], "absent_reason": None}},
    }
