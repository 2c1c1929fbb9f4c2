"""The picture by which people recognise a video."""

import cv2
import numpy as np

from services.analyzer.report.key_frames import thumbnail
from services.analyzer.report.model import KeyFrame
from services.analyzer.settings import Limits
from services.analyzer.video.probe import probe
from testing.data import motions
from testing.data.reports import result_of, with_margins
from testing.data.videos import BATTER


def plain(at: float, colour: tuple[int, int, int]) -> KeyFrame:
    """An image of one colour (blue, green, red), 720 by 405."""
    jpeg = cv2.imencode(".jpg", np.full((405, 720, 3), colour, np.uint8))[1].tobytes()
    return KeyFrame(at, bytes(jpeg), 720, 405, np.full((33, 2), np.nan), np.zeros(33), at)


def test_the_thumbnail_is_the_report_s_image_of_the_first_finding() -> None:
    """320 pixels wide, in its colours, without another reading of the video."""
    poses = motions.stroke(30)
    result = result_of(with_margins("batting", head_stability_score=-0.2), "batting", poses)
    moment = result.findings.first_moment
    assert moment is not None
    shown = [plain(moment - 1, (255, 0, 0)), plain(moment, (0, 0, 255)), plain(moment + 1, (0, 255, 0))]
    jpeg = thumbnail(probe(BATTER, Limits()), poses, result, shown, Limits())
    small = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert small is not None
    assert small.shape == (180, 320, 3)
    assert np.abs(small.reshape(-1, 3).mean(axis=0) - (0, 0, 255)).max() < 10


def test_results_have_the_mark_of_each_measured_number() -> None:
    """Reached or not; a video that is not assessed has none."""
    poses = motions.stroke(30)
    result = result_of(with_margins("batting", head_stability_score=0.2, balance_drift_score=-0.2), "batting", poses)
    assert result.findings.marks == {"head_stability_score": 0.14, "balance_drift_score": 0.09}
    unseen = result_of(with_margins("batting", detection_rate_percent=5.0), "batting", poses)
    assert (unseen.findings.overall_level, unseen.findings.marks) == (None, {})
