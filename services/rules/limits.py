"""Limits that more than one program checks, each counted one way."""

import json
import re
from dataclasses import dataclass
from typing import Any

# Frames sampled per second of video.
MIN_SAMPLE_FPS = 1
DEFAULT_SAMPLE_FPS = 10
MAX_SAMPLE_FPS = 30

# Frames per second at which a camera recorded, if the client states it.
MIN_CAPTURE_FPS = 1
MAX_CAPTURE_FPS = 1000
# Errors state this rule of `is_capture_fps`, and that of `is_in_picture`.
CAPTURE_FPS_RULE = f"must be {MIN_CAPTURE_FPS} to {MAX_CAPTURE_FPS}, or 0"
IN_PICTURE_RULE = "must lie in the picture: fractions from 0 to 1, width and height above 0"

# Moments that a client may give for one video.
MAX_GIVEN_EVENTS = 16

# The upper bound of a result in the job's row, as `results_bytes` counts it. Data of single frames are artifacts.
MAX_RESULTS_BYTES = 64 * 1024

# The upper bound of a sentence about an ending or a placement: error_message, ending_message, placement_reason.
MAX_SENTENCE_BYTES = 2048

# The most artifacts of one launch's stage, and the largest one. The overlay of the longest video is far smaller.
MAX_ARTIFACTS = 32
MAX_ARTIFACT_BYTES = 5_000_000_000
# A media type becomes a header: no character that could end one.
MEDIA_TYPE = re.compile(r"[a-z]{1,20}/[a-z0-9.+-]{1,80}(; ?charset=utf-8)?")


@dataclass(frozen=True)
class CallerLimits:
    """Upper bounds of what one caller has in flight in one replica; 0: no bound."""

    calls: int = 0
    streams: int = 0
    connections: int = 0


def sentence(text: str, most: int = MAX_SENTENCE_BYTES) -> str:
    """The beginning of a text, at most `most` bytes long in UTF-8."""
    encoded = text.encode()
    if len(encoded) <= most:
        return text
    mark = "…"
    return encoded[: most - len(mark.encode())].decode(errors="ignore") + mark


def is_capture_fps(requested: float) -> bool:
    """Whether a stated capture rate is valid; 0 means none. NaN is not."""
    return requested == 0 or MIN_CAPTURE_FPS <= requested <= MAX_CAPTURE_FPS


def is_in_picture(left: float, top: float, width: float, height: float) -> bool:
    """Whether a box in shares of a picture lies inside it and has an area."""
    right, bottom = left + width, top + height
    return 0 <= left < right <= 1 + 1e-6 and 0 <= top < bottom <= 1 + 1e-6


def results_bytes(results: Any) -> int:
    """Bytes of a result as JSON, with every number written as the double that google.protobuf.Struct carries.

    12 counts as 12.0, so that the count is the same before and after the wire.
    """
    return len(json.dumps(_with_doubles(results)).encode())


def _with_doubles(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_doubles(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_doubles(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value
