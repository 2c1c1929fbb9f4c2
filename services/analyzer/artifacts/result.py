"""Defines the typed result of one analysis: the clip, the run, the measurements, the findings and the report."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from services import traces
from services.analyzer.pose.passes import PoseResult
from services.analyzer.video.probe import Video

# Lazy: the first pose does not wait for modules that come after it.
if TYPE_CHECKING:
    from services.analyzer.biomechanics.model import Measurements
    from services.analyzer.coaching.model import Findings, Report

PACKAGES = ("mediapipe", "av", "numpy", "scipy", "opencv-python-headless")


@dataclass(frozen=True)
class ClipSummary:
    """Facts of a video and of its landmarks, before any number is measured.

    frames_with_pose: of the sampled frames. width, height: pixels of the upright image. damage: a sentence, None if the
    file is intact. people_in_view: the most at once. chosen_by: how the athlete was selected; certainty: 0..1 of that.
    candidates: (left, top, width, height) of each who may be the athlete, as shares of the picture, if that is unclear.
    cuts: seconds. pans: (from, to) in seconds. capture_fps: of the camera, None if unknown. slowdown: how many times
    slower than life the file plays.
    """

    total_frames: int
    sampled_frames: int
    frames_with_pose: int
    video_fps: float
    declared_fps: float | None
    capture_fps: float | None
    slowdown: float
    model: str
    width: int
    height: int
    rotation_degrees: int
    duration_seconds: float
    container: str
    codec: str
    pixel_format: str
    hdr: str | None
    mirrored: bool
    longest_gap_seconds: float
    damage: str | None
    people_in_view: int
    chosen_by: str
    certainty: float
    candidates: tuple[tuple[float, float, float, float], ...] = ()
    cuts: tuple[float, ...] = ()
    pans: tuple[tuple[float, float], ...] = ()

    @property
    def clock(self) -> str:
        """Whether the file plays in real time: `real`, `slowed`, or `unknown`."""
        if self.capture_fps is None:
            return "unknown"
        return "real" if self.slowdown == 1 else "slowed"

    @property
    def detection_rate_percent(self) -> float:
        """Share of the sampled frames with a detection of the athlete."""
        return 100 * self.frames_with_pose / self.sampled_frames if self.sampled_frames else 0.0


@dataclass
class Run:
    """Execution of one stage. accelerator_reason: a sentence; seconds: wall time by step.

    followed: whether the deep stage follows. extent: what of the film the stage looks at, in the words of a reason.
    """

    stage: str
    accelerator: str
    accelerator_reason: str
    seconds: dict[str, float] = field(default_factory=dict)
    followed: bool = False
    extent: str = "this film"

    @property
    def provisional(self) -> bool:
        """Whether the deep stage replaces this result."""
        return self.stage == "quick"

    @contextmanager
    def timing(self, step: str) -> Iterator[None]:
        """Adds the wall time of the block to a step."""
        started = time.perf_counter()
        try:
            with traces.span(step):
                yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - started


@dataclass(frozen=True)
class AnalysisResult:
    """All results of one stage of an analysis."""

    clip: ClipSummary
    run: Run
    measurements: Measurements
    findings: Findings
    report: Report


def summarize_clip(video: Video, seen: PoseResult, damage: str | None, model: str) -> ClipSummary:
    """The facts of a video. damage: a sentence, None if the file is intact; model: name of the pose model."""
    return ClipSummary(
        total_frames=len(video.pts),
        sampled_frames=len(seen.whole),
        frames_with_pose=int(seen.whole.detected.sum()),
        video_fps=video.fps,
        declared_fps=video.declared_fps,
        capture_fps=video.capture_fps,
        slowdown=video.slowdown,
        model=model,
        width=video.width,
        height=video.height,
        rotation_degrees=video.rotation_degrees,
        duration_seconds=video.duration_seconds,
        container=video.container,
        codec=video.codec,
        pixel_format=video.pixel_format,
        hdr=video.hdr,
        mirrored=video.mirrored,
        longest_gap_seconds=video.longest_gap_seconds,
        damage=damage,
        people_in_view=seen.people,
        chosen_by=seen.chosen_by,
        certainty=seen.certainty,
        candidates=tuple(
            (box.left, box.top, box.width, box.height) for box in (candidate.box for candidate in seen.candidates)
        ),
        cuts=seen.camera_motion.cuts,
        pans=seen.camera_motion.pans,
    )


def peak_memory_bytes() -> int:
    """Peak resident memory of this process. getrusage would include the parent's memory before exec."""
    status = Path("/proc/self/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


@functools.cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
