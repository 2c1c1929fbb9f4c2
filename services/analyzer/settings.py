"""What the analyzer is told from outside, read once; a missing or wrong setting names itself."""

from enum import StrEnum
from pathlib import Path

from pydantic import Field, PositiveFloat, PositiveInt

from services.analyzer.sandbox.limits import Bounds
from services.settings import Settings as Shared

BUILT_MODEL = Path(__file__).parents[2] / "build" / "model" / "pose_landmarker_full.task"


class Accelerator(StrEnum):
    """Where poses may be estimated: `auto` takes a GPU if the machine shows one."""

    auto = "auto"
    gpu = "gpu"
    cpu = "cpu"


class Limits(Shared):
    """What one video may cost before it is refused: a small file can hide a very large picture."""

    # The largest file accepted.
    max_video_bytes: PositiveInt = 5 * 1024**3
    # The largest picture accepted, width times height.
    max_video_pixels: PositiveInt = 4096 * 2304
    # The longest video accepted.
    max_video_seconds: PositiveFloat = 1800.0
    # The most frames accepted.
    max_video_frames: PositiveInt = 432_000
    # CPU time of one run through it, so that a machine with little time to give fails no good video.
    max_decode_seconds: PositiveFloat = 3600.0
    # Of the decoder's own memory: 4K in ten bits with sixteen pictures kept for reference takes two thirds of it.
    max_decode_bytes: PositiveInt = 1024**3
    # CPU time that a decoder may take without a sign of life; by the clock it may take ten times as long.
    max_stall_seconds: PositiveFloat = 60.0

    @property
    def bounds(self) -> Bounds:
        """The same for the other side of the sandbox."""
        return Bounds(**self.model_dump(include=set(Limits.model_fields)))


class Settings(Limits):
    """Everything an analysis needs to know beside the video."""

    # File of the pose model.
    mediapipe_pose_model_path: Path = Field(default=BUILT_MODEL, validation_alias="MEDIAPIPE_POSE_MODEL_PATH")
    # Where poses are estimated. auto: on a GPU if the machine has one.
    accelerator: Accelerator = Accelerator.auto


class WorkerSettings(Settings):
    """And what a pod needs to know beside that: whom to report to, and by which token it is told from other pods.

    Endpoints are host:port.
    """

    # host:port of jobs.
    jobs_endpoint: str
    # host:port of upload.
    upload_endpoint: str
    # File with the pod's token.
    token_file: Path
    # http(s)://host:port of an OTLP collector, by gRPC; empty: nothing is traced.
    otlp_endpoint: str = Field("", pattern=r"^(https?://\S+)?$")
    # Where the trace of its job goes on: W3C's traceparent. Empty: it is not traced.
    trace_parent: str = Field("", pattern=r"^(00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2})?$")
    # How long to retry StartLaunch while jobs is unavailable.
    start_patience_seconds: PositiveFloat = 60.0
    # How long to retry one file while S3 is unavailable.
    transfer_patience_seconds: PositiveFloat = 300.0
