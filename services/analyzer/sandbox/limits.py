"""Holds what one video may cost, as plain numbers for both sides of the sandbox."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SandboxLimits:
    """The values of the settings with the same names; `settings.Limits` describes each."""

    max_video_bytes: int
    max_video_pixels: int
    max_video_seconds: float
    max_video_frames: int
    max_decode_seconds: float
    max_decode_bytes: int
    max_stall_seconds: float
    require_confinement: bool
