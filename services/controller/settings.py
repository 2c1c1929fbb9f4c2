"""What the controller is told from outside."""

import sys
from datetime import timedelta
from pathlib import Path

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from services.controller.decide import Limits
from services.settings import Issuer, ServerSettings


class Settings(ServerSettings):
    """Its server has no RPC of its own: it listens for health and reflection, and believes no issuer."""

    issuers: tuple[Issuer, ...] = ()
    listen: str = "127.0.0.1:50053"

    # host:port
    jobs_endpoint: str
    # host:port; the controller never calls it, its analyzers do
    upload_endpoint: str
    # How the controller proves itself to `jobs`.
    token_file: Path
    # One `jobs` may serve several clusters; each launch belongs to one of them.
    cluster: str = "laptop"
    # How many analyses may run at once.
    capacity: PositiveInt = 1
    # Longest wait between two looks; an event makes it shorter.
    tick_seconds: PositiveFloat = 1.0
    # How long one analysis may run. Under the life of its token, which is 6 hours.
    deadline_seconds: PositiveFloat = 4 * 3600.0
    # How long one may still run when its launch has ended: an analyzer that has submitted its result ends by itself.
    linger_seconds: NonNegativeFloat = 5.0

    # What follows is for processes on this machine.
    # Where they are recorded; it is to them what a namespace is to Kubernetes Jobs.
    state_folder: Path
    # The laptop's issuer, which makes their tokens.
    issuer_folder: Path
    # Passed on where it is set; the analyzer knows where its own model lies.
    mediapipe_pose_model_path: Path | None = Field(default=None, validation_alias="MEDIAPIPE_POSE_MODEL_PATH")
    # What is started for a launch; `--job-id` and `--launch` follow.
    analyzer_command: tuple[str, ...] = (sys.executable, "-m", "services.analyzer")

    @property
    def limits(self) -> Limits:
        """What `decide` has to know of all this."""
        deadline, linger = timedelta(seconds=self.deadline_seconds), timedelta(seconds=self.linger_seconds)
        return Limits(self.capacity, deadline, linger)
