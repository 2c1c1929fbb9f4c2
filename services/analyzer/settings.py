"""Reads the analyzer's settings from the environment, once; an error names the missing or wrong setting."""

from enum import StrEnum
from pathlib import Path

from pydantic import Field, PositiveFloat, PositiveInt

from services.analyzer.sandbox.limits import SandboxLimits
from services.naming import POSE_MODEL
from services.settings import Settings as Shared

BUILT_MODEL = Path(__file__).parents[2] / "build" / "model" / f"{POSE_MODEL}.task"


class Accelerator(StrEnum):
    """Where poses may be estimated: `auto` takes a GPU if the machine shows one."""

    auto = "auto"
    gpu = "gpu"
    cpu = "cpu"


class Limits(Shared):
    """Upper bounds for one video: a small file can contain a very large picture."""

    # The largest file accepted.
    max_video_bytes: PositiveInt = 5 * 1024**3
    # The largest picture accepted, width times height.
    max_video_pixels: PositiveInt = 4096 * 2304
    # The longest video accepted.
    max_video_seconds: PositiveFloat = 1800.0
    # The most frames accepted.
    max_video_frames: PositiveInt = 432_000
    # CPU time, not the clock's, of one pass through the video: a slow machine must not fail a good video.
    max_decode_seconds: PositiveFloat = 3600.0
    # Memory of the decoder itself: 4K in ten bits with sixteen reference pictures needs two thirds of it.
    max_decode_bytes: PositiveInt = 1024**3
    # CPU time that a decoder may use between two messages. By the clock it may take ten times as long.
    max_stall_seconds: PositiveFloat = 60.0
    # Whether to refuse every video on a kernel without Landlock or seccomp. false: a line of the log names the lack.
    require_confinement: bool = False

    @property
    def for_sandbox(self) -> SandboxLimits:
        """The same limits as plain numbers: the sandbox imports no pydantic."""
        return SandboxLimits(**self.model_dump(include=set(Limits.model_fields)))


class Settings(Limits):
    """All settings of an analysis."""

    # File of the pose model.
    mediapipe_pose_model_path: Path = Field(default=BUILT_MODEL, validation_alias="MEDIAPIPE_POSE_MODEL_PATH")
    # Where poses are estimated. auto: on a GPU if the machine has one.
    accelerator: Accelerator = Accelerator.auto


class WorkerSettings(Settings):
    """All settings of a pod: those of an analysis, the services it reports to and the token that identifies it.

    Endpoints are host:port.
    """

    # host:port of jobs.
    jobs_endpoint: str
    # host:port of upload.
    upload_endpoint: str
    # File with the pod's token.
    token_file: Path
    # http(s)://host:port of an OTLP collector that accepts gRPC; empty: tracing is off.
    otlp_endpoint: str = Field("", pattern=r"^(https?://\S+)?$")
    # The parent of this process's spans: W3C's traceparent. Empty: the job is not traced.
    trace_parent: str = Field("", pattern=r"^(00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2})?$")
    # How long to retry calls to `jobs` before there is a lease, and transfers with S3 for each file.
    start_patience_seconds: PositiveFloat = 60.0
    # How long to retry one file while S3 is unavailable.
    transfer_patience_seconds: PositiveFloat = 300.0
