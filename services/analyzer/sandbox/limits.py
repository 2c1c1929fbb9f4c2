"""What one video may cost, as plain numbers that both sides of the sandbox know."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Bounds:
    """Settings of the same names say it from outside; see `Limits`."""

    max_video_bytes: int
    max_video_pixels: int
    max_video_seconds: float
    max_video_frames: int
    max_decode_seconds: float
    max_decode_bytes: int
    max_stall_seconds: float
