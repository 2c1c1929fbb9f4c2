"""The landmarks stay with the athlete beside, behind and in front of another person."""

from pathlib import Path

import numpy as np
import pytest

from services.analyzer.pipeline import Analysis, AnalysisOptions
from services.analyzer.pose.landmarks import Poses
from services.analyzer.pose.multi_person import TRUNK
from services.analyzer.pose.tracking import Box
from services.analyzer.report.metadata import Metadata
from services.analyzer.settings import Accelerator, Settings
from services.analyzer.video.sampling import on_grid
from testing.data.composites import HEIGHT, WIDTH, Other, batter_frames, write_composite
from testing.data.videos import needs_model

pytestmark = [needs_model, pytest.mark.slow]
# Landmarks within this many pixels of the true trunk are right. Half the width of a body with its arms, in pixels.
RIGHT, HALF_BODY = 40, 72
ACROSS = ((0.0, -330.0), (3.5, 450.0))

FILMS = {
    "beside": Other(0.8, ((0.0, 330.0),)),
    "behind him": Other(0.8, ACROSS),
    "in front of him": Other(0.8, ACROSS, in_front=True),
    "as large, behind him": Other(1.0, ACROSS),
    "as large, in front of him": Other(1.0, ACROSS, in_front=True),
    "nearer, hurrying by": Other(1.3, ((0.0, -600.0), (1.0, -600.0), (2.2, 700.0), (3.5, 700.0)), in_front=True),
    "stopping in front of him": Other(0.8, ((0.0, -330.0), (1.2, 60.0), (1.6, 60.0), (3.5, 450.0)), in_front=True),
}


def kept(poses: Poses, mine: np.ndarray, theirs: np.ndarray, scale: float) -> tuple[float, float]:
    """Two shares: of the frames with landmarks, those not on the other person; of the frames in which the two
    bodies do not overlap, those with the athlete's landmarks."""
    frames = np.round(poses.times * 30).astype(int)
    trunks = poses.image[:, TRUNK].mean(axis=1)
    off, off_other = (np.linalg.norm(trunks - true[frames], axis=1) for true in (mine, theirs))
    apart = np.abs(mine - theirs)[frames, 0] > HALF_BODY * (1 + scale)
    right = (off < RIGHT) | (off < off_other)
    not_theirs = (off < RIGHT) | (off_other > RIGHT)
    return float(not_theirs[poses.detected].mean()), float(right[apart].mean())


@pytest.mark.parametrize("name", FILMS)
def test_the_athlete_is_kept_when_another_person_passes(name: str, tmp_path: Path) -> None:
    """In 95 % of the frames of the whole clip and the close-up; overlapping bodies may hide each other."""
    path, other = tmp_path / "film.mp4", FILMS[name]
    mine, theirs = write_composite(path, batter_frames(), other)
    x, y = mine[0]
    box = Box((x - 80) / WIDTH, (y - 170) / HEIGHT, 160 / WIDTH, 460 / HEIGHT) if other.scale >= 1 else None
    analysis = Analysis(path, AnalysisOptions(athlete_box=box), Settings(accelerator=Accelerator.cpu), Metadata())
    seen = analysis.pose_passes.run_whole_clip(on_grid(analysis.video.times, 10), lambda _: None)
    near = analysis.pose_passes.run_close_ups(seen, [(0.8, 2.4)], lambda _: None).closeups[0]
    for poses in (seen.whole, near):
        assert min(kept(poses, mine, theirs, other.scale)) >= 0.95


def test_the_smaller_person_is_tracked_if_the_box_is_around_them(tmp_path: Path) -> None:
    """The boxed person is selected beside a larger one, with a certainty over 0.5."""
    path = tmp_path / "film.mp4"
    mine, theirs = write_composite(path, batter_frames(), FILMS["beside"])
    x, y = theirs[0]
    box = Box((x - 70) / WIDTH, (y - 150) / HEIGHT, 140 / WIDTH, 380 / HEIGHT)
    analysis = Analysis(path, AnalysisOptions(athlete_box=box), Settings(accelerator=Accelerator.cpu), Metadata())
    seen = analysis.pose_passes.run_whole_clip(on_grid(analysis.video.times, 10), lambda _: None)
    near = analysis.pose_passes.run_close_ups(seen, [(0.8, 2.4)], lambda _: None).closeups[0]
    assert (seen.people, seen.chosen_by) == (2, "box")
    assert seen.certainty > 0.5
    assert min(min(kept(poses, theirs, mine, 1.0)) for poses in (seen.whole, near)) >= 0.95
