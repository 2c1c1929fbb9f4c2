"""How right the numbers are: `python -m tests.accuracy` prints every claim with its measured error, as a table.

Clips are posed as the product does it: the whole at 10 frames a second, then each action at every frame; each once a
process. Errors are absolute and the worst of what a row names, unless it says mean. Rows whose clip is not at hand are
left out, and named at the end.
"""

import functools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from services.analyzer.decode import Losses, Picture, pictures
from services.analyzer.events import action_windows
from services.analyzer.measure import Measurements, measure
from services.analyzer.mirror import BothWays
from services.analyzer.pose import Posing, watch
from services.analyzer.probe import Video, probe
from services.analyzer.repeats import Stillness
from services.analyzer.sampling import Indices, every, on_grid
from services.analyzer.series import Poses
from services.analyzer.settings import Accelerator, Settings
from services.analyzer.smooth import rows

ROOT = Path(__file__).parents[1]
BATTER, BATTER_TRUTH = ROOT / "samples" / "batter.mp4", ROOT / "samples" / "batter_truth.json"
CORPUS = ROOT.parent / "shared" / "corpus"
BOWLERS = ("bowl_01", "bowl_11", "bowl_14", "bowl_21", "bowl_26")
# Flat foot, read by eye in the 540p clips; the heel touches 1.5 to 3 frames earlier.
FLAT_FOOT_FRAMES = {"bowl_01": 21, "bowl_11": 16, "bowl_14": 17.5, "bowl_21": 27, "bowl_26": 26}
BOWLING_FPS = 29.97
FRAME = 1 / 30
ACTION_METRICS = ("head_stability_score", "balance_drift_score", "front_knee_brace_score", "elbow_drop_score")
SETTINGS = Settings(accelerator=Accelerator.cpu)


@dataclass(frozen=True)
class Claim:
    """One row: what was measured on what, its worst error, the bound it is held to, and in which unit."""

    name: str
    error: float
    bound: float
    unit: str
    note: str = ""

    @property
    def ok(self) -> bool:
        return self.error <= self.bound + 1e-9

    def __str__(self) -> str:
        verdict = "yes" if self.ok else "**no**"
        return f"| {self.name} | {self.error:.3g} {self.unit} | {self.bound:g} {self.unit} | {verdict} | {self.note} |"


@dataclass(frozen=True)
class Take:
    """A clip looked at in one way. fps: of the first pass; thin: only every so many frames exist."""

    path: Path
    discipline: str
    mirror: bool = False
    fps: float = 10
    thin: int = 1


@functools.cache
def posing() -> Posing:
    return Posing(SETTINGS.mediapipe_pose_model_path, SETTINGS.accelerator)


@functools.cache
def looked_at(take: Take) -> tuple[Poses, tuple[Poses, ...]]:
    """Both passes over a clip."""
    video = probe(take.path, SETTINGS)
    there = np.arange(len(video.times))[:: take.thin]
    whole = posed(video, there[on_grid(video.times[there], take.fps)], take.mirror)
    closeups = []
    for start, end in action_windows(whole, take.discipline):
        closeups.append(posed(video, there[every(video.times[there], start, end)], take.mirror, closely=True))
    return whole, tuple(closeups)


@functools.cache
def measured(take: Take) -> Measurements:
    whole, closeups = looked_at(take)
    return measure(whole, list(closeups), take.discipline)


def posed(video: Video, wanted: Indices, mirror: bool, closely: bool = False) -> Poses:
    """The wanted frames in one run; a close look is both ways, and leaves out repeated pictures."""
    source = (_flipped(picture, mirror) for picture in pictures(video, wanted, SETTINGS, Losses()))
    stillness = Stillness()
    with posing().fresh() as plain, posing().fresh() as turned:
        landmarker = BothWays(plain, turned) if closely else plain
        poses = watch(landmarker, stillness.noting(source), video.width, video.height)
    return rows(poses, ~stillness.repeats()) if closely else poses


def _flipped(picture: Picture, mirror: bool) -> Picture:
    return replace(picture, rgb=np.ascontiguousarray(picture.rgb[:, ::-1])) if mirror else picture
