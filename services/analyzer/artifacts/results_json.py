"""Puts what was found into the one shape that clients read; what JSON cannot hold (NaN, infinity) becomes null."""

import importlib.metadata
import math
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from services import traces
from services.analyzer.cpu_time import by_stage
from services.analyzer.pose.passes import Seen
from services.analyzer.video.probe import Video
from services.limits import MAX_RESULTS_BYTES, results_bytes

Results = dict[str, Any]
# Of docs/results.schema.json: a key may be added to a version, none is removed or changes its meaning.
VERSION = 1
# What grows with the length of a film.
LISTS = frozenset({"evidence", "repetitions", "events", "cuts", "pans"})
PACKAGES = ("mediapipe", "av", "numpy", "scipy", "opencv-python-headless")


@dataclass
class Run:
    """How an analysis went: the stage, the accelerator and why that one, and the seconds each step took."""

    stage: str
    accelerator: str
    accelerator_reason: str
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timing(self, step: str) -> Iterator[None]:
        """Add the wall time of the block to a step."""
        started = time.perf_counter()
        try:
            with traces.span(step):
                yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - started

    def as_dict(self) -> dict[str, Any]:
        """For pose_summary, with the process's peak memory so far and the versions of what computed the numbers."""
        return {
            "stage": self.stage,
            "provisional": self.stage == "quick",
            "accelerator": self.accelerator,
            "accelerator_reason": self.accelerator_reason,
            "seconds": {step: round(seconds, 3) for step, seconds in self.seconds.items()},
            "cpu_seconds": {stage: round(seconds, 3) for stage, seconds in by_stage().items()},
            "peak_memory_bytes": peak_memory_bytes(),
            "versions": versions(),
        }


def peak_memory_bytes() -> int:
    """The most that this process held so far. getrusage would count what its parent held before exec, too."""
    status = Path("/proc/self/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def versions() -> dict[str, str]:
    """What a number may depend on beside the video."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def summary(video: Video, sight: Seen, damage: str | None, model: str) -> dict[str, Any]:
    """What pictures and landmarks alone decide of pose_summary. damage: a sentence, None where nothing is broken."""
    whole = sight.whole
    seen = int(whole.detected.sum())
    return {
        "results_version": VERSION,
        "total_frames": len(video.pts),
        "sampled_frames": len(whole),
        "frames_with_pose": seen,
        "detection_rate_percent": round(100 * seen / len(whole), 1) if len(whole) else 0.0,
        "video_fps": round(video.fps, 3),
        "declared_fps": video.declared_fps,
        "model": model,
        "width": video.width,
        "height": video.height,
        "rotation_degrees": video.rotation_degrees,
        "duration_seconds": round(video.duration_seconds, 3),
        "container": video.container,
        "codec": video.codec,
        "pixel_format": video.pixel_format,
        "hdr": video.hdr,
        "mirrored": video.mirrored,
        "longest_gap_seconds": round(video.longest_gap_seconds, 3),
        "damaged": damage is not None,
        "damage": damage,
        "people_in_view": sight.people,
        "athlete": {"chosen_by": sight.chosen_by, "certainty": round(sight.certainty, 2)},
        "camera": {
            "cuts": [round(cut, 3) for cut in sight.steadiness.cuts],
            "pans": [{"from_seconds": start, "to_seconds": end} for start, end in sight.steadiness.pans],
        },
    }


def plain(value: Any) -> Any:
    """The same value for JSON: NumPy's scalars and arrays as Python's, NaN and infinities as None."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def row_copy(results: Results) -> Results:
    """What goes into the database's row: without frames, and with shorter lists if that is what makes it too large.

    How long they may be is then in its summary, as `shortened_to`.
    """
    row: Results = {**results, "pose": {"pose_summary": results["pose"]["pose_summary"]}}
    for most in (200, 50, 20, 5, 1, 0):
        if results_bytes(row) <= MAX_RESULTS_BYTES:
            break
        row = _shortened(row, most)
        row["pose"]["pose_summary"]["shortened_to"] = most
    return row


def _shortened(value: Any, most: int) -> Any:
    if isinstance(value, dict):
        return {
            key: _shortened(item[:most] if key in LISTS and isinstance(item, list) else item, most)
            for key, item in value.items()
        }
    return value
