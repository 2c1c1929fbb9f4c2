"""One bowler in six copies: plain, stored sideways, in HEVC, with dropped frames, in 4K and mirrored."""

import functools

import numpy as np
import pytest

from services.analyzer.arrays import Floats
from services.analyzer.biomechanics.events import close_up_windows
from services.analyzer.biomechanics.measurement import measure
from services.analyzer.biomechanics.model import Measurements
from services.analyzer.pose.estimator import LandmarkerFactory
from services.analyzer.pose.landmarks import INDEX, LANDMARKS, Poses
from services.analyzer.pose.passes import PosePasses
from services.analyzer.settings import Accelerator, Settings
from services.analyzer.video.probe import probe
from services.analyzer.video.sampling import on_grid
from testing.data.videos import corpus, needs_model

pytestmark = [needs_model, pytest.mark.slow]

SETTINGS = Settings(accelerator=Accelerator.cpu)
PLAIN = "bowling/bowl_01_540p.mp4"
DISGUISES = {
    "sideways": "hard/rot90_tag.mp4",
    "hevc": "hard/hevc.mp4",
    "dropped frames": "hard/vfr_dropped.mp4",
    "4k": "bowling/bowl_01_2160p.mp4",
    "mirror": "hard/mirrored_left_arm.mp4",
}
JOINTS = [name for name in LANDMARKS if name.split("_")[-1] in ("shoulder", "elbow", "hip", "knee", "ankle")]


@functools.cache
def posed(name: str) -> tuple[Poses, Measurements]:
    """The close-up of the delivery, and the measurements."""
    video = probe(corpus(name), SETTINGS)
    viewer = PosePasses(
        video, LandmarkerFactory(SETTINGS.mediapipe_pose_model_path, SETTINGS.accelerator), SETTINGS, None
    )
    seen = viewer.run_whole_clip(on_grid(video.times, 10), lambda _: None)
    seen = viewer.run_close_ups(seen, close_up_windows(seen.whole, "bowling"), lambda _: None)
    return seen.closeups[0], measure(seen.whole, seen.closeups, "bowling")


def joints(poses: Poses, mirrored: bool) -> Floats:
    """(n, joints, 2) shares of the image height; for a mirrored clip with sides swapped and x reversed."""
    swap = {"left": "right", "right": "left"}
    names = [name.replace(side := name.split("_")[0], swap[side]) if mirrored else name for name in JOINTS]
    points = poses.image[:, [INDEX[name] for name in names]] / poses.height
    if mirrored:
        points[..., 0] = poses.width / poses.height - points[..., 0]
    return points


def moment(measured: Measurements, name: str) -> float:
    return next(event.time_seconds for event in measured.events if event.name == name)


@pytest.mark.parametrize("name", DISGUISES)
def test_a_disguise_changes_no_joint(name: str) -> None:
    """At equal times, the joints of a frame are off by 2 % of the bowler's height in the median."""
    (plain, _), (other, _) = posed(PLAIN), posed(DISGUISES[name])
    pairs = [(i, int(np.argmin(np.abs(plain.times - time)))) for i, time in enumerate(other.times)]
    pairs = [(i, k) for i, k in pairs if abs(plain.times[k] - other.times[i]) < 0.004]
    assert len(pairs) > 15
    there, here = joints(other, name == "mirror")[[i for i, _ in pairs]], joints(plain, False)[[k for _, k in pairs]]
    height = np.nanmedian(np.ptp(plain.image[..., 1], axis=1)) / plain.height
    assert np.nanmedian(np.linalg.norm(there - here, axis=2)) <= 0.02 * height


@pytest.mark.parametrize("name", DISGUISES)
def test_a_disguise_moves_no_event(name: str) -> None:
    """Release within 20 ms, by the same arm, in the mirror by the other."""
    (_, plain), (_, other) = posed(PLAIN), posed(DISGUISES[name])
    assert moment(other, "release") == pytest.approx(moment(plain, "release"), abs=0.020)
    assert (plain.throwing_arm, other.throwing_arm) == ("right", "left" if name == "mirror" else "right")
