"""Keeps the landmarks of both passes in a file, so that a later analysis of the video estimates no frame again.

    PoseResult, Origin ─▶ landmarks.npz ─▶ PoseResult, or None if the origin differs

Analyses of one origin have the same whole-clip pass; with several people in view it also depends on the discipline,
whose actions show the athlete. Close-ups depend on the discipline and on given moments, so each has its window beside
it. The arrays are those of `Poses`, unrounded: the same landmarks give the same numbers.
"""

import json
import zipfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from services.analyzer.pose.landmarks import PER_FRAME, Poses, select_frames
from services.analyzer.pose.passes import CERTAIN_CHOICES, PoseResult
from services.analyzer.pose.tracking import Box
from services.analyzer.video.camera_motion import CameraMotion
from services.analyzer.video.probe import Video

# A file of another version is not read. Raise it when an older file would no longer give the same numbers.
VERSION = 1
# The fields of PoseResult that are neither arrays nor poses.
FACTS = ("people", "chosen_by", "certainty", "windows", "lost")


@dataclass(frozen=True)
class Origin:
    """All that the landmarks of a whole-clip pass depend on. frames: of the video; size_bytes: of the file."""

    version: int
    model: str
    sample_fps: int
    athlete_box: list[float] | None
    slowdown: float
    frames: int
    size_bytes: int
    discipline: str

    @classmethod
    def of(cls, video: Video, sample_fps: int, box: Box | None, model: str, discipline: str) -> "Origin":
        """The origin of the landmarks that an analysis would compute."""
        sides = [box.left, box.top, box.width, box.height] if box else None
        return cls(VERSION, model, sample_fps, sides, video.slowdown, len(video.pts), video.size_bytes, discipline)


def write_landmarks(poses: PoseResult, origin: Origin, out: Path) -> None:
    """Write the poses of both passes to `out`."""
    motion = {"cuts": poses.camera_motion.cuts, "pans": poses.camera_motion.pans}
    facts = {"origin": asdict(origin), "motion": motion, **{name: getattr(poses, name) for name in FACTS}}
    facts |= {"width": poses.whole.width, "height": poses.whole.height}
    arrays: dict[str, Any] = {"facts": np.array(json.dumps(facts)), "wanted": poses.wanted}
    arrays |= _arrays("whole", poses.whole)
    for number, (close_up, all_frames) in enumerate(zip(poses.closeups, poses.closeups_with_duplicates, strict=True)):
        arrays |= _arrays(f"closeup{number}", all_frames)
        arrays[f"closeup{number}.kept"] = np.isin(all_frames.times, close_up.times)
    np.savez_compressed(out, **arrays)


def read_landmarks(path: Path, origin: Origin) -> PoseResult | None:
    """The poses that an earlier analysis kept; None if its origin is another, or the file cannot be used."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            facts = json.loads(str(arrays["facts"]))
            if not _is_same_pass(facts, origin):
                return None
            size = (int(facts["width"]), int(facts["height"]))
            windows = [(float(start), float(end)) for start, end in facts["windows"]]
            with_duplicates = [_poses(arrays, f"closeup{number}", size) for number in range(len(windows))]
            kept = [arrays[f"closeup{number}.kept"] for number in range(len(windows))]
            return PoseResult(
                wanted=arrays["wanted"],
                whole=_poses(arrays, "whole", size),
                people=facts["people"],
                camera_motion=CameraMotion(
                    tuple(facts["motion"]["cuts"]), tuple((start, end) for start, end in facts["motion"]["pans"])
                ),
                chosen_by=facts["chosen_by"],
                certainty=facts["certainty"],
                closeups=[select_frames(*pair) for pair in zip(with_duplicates, kept, strict=True)],
                closeups_with_duplicates=with_duplicates,
                windows=windows,
                lost=facts["lost"],
            )
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return None


def _is_same_pass(facts: dict[str, Any], origin: Origin) -> bool:
    """Whether a whole-clip pass of this origin would find the same athlete."""
    if facts["chosen_by"] in CERTAIN_CHOICES:
        origin = replace(origin, discipline=facts["origin"]["discipline"])
    return bool(facts["origin"] == asdict(origin))


def _arrays(prefix: str, poses: Poses) -> dict[str, Any]:
    return {f"{prefix}.{name}": getattr(poses, name) for name in PER_FRAME}


def _poses(arrays: Any, prefix: str, size: tuple[int, int]) -> Poses:
    return Poses(**{name: arrays[f"{prefix}.{name}"] for name in PER_FRAME}, width=size[0], height=size[1])
