"""Report pages to test: of drawn motions, of scores given by hand, and one as full as a page gets."""

from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

import cv2
import numpy as np

from services.analyzer.biomechanics.measurement import MEASURES, UNITS, Measurements, Metric, measure
from services.analyzer.coaching.findings import find
from services.analyzer.coaching.summary import compose
from services.analyzer.knowledge.loader import guidance
from services.analyzer.pose.landmarks import PER_FRAME, Poses
from services.analyzer.report.annotations import draw
from services.analyzer.report.metadata import About
from services.analyzer.report.page import KeyFrame, render
from testing.data import motions

HOSTILE = (
    "<script>alert(1)</script></style></title>\"'><img src=x onerror=alert(2)>{{ 7 * 7 }}"
    "\u202e\u2066 right to left \u0634\u0639\u064a\u0628 \U0001f3cf\U0001f468\u200d\U0001f469\u200d\U0001f467"
    " ]]> --> \\u003c/script>\u2028"
)
LONG_HOSTILE = (HOSTILE * 50)[:5000]
STROKES, SECONDS_EACH = 8, 3.75


def results(measured: Measurements, discipline: str, whole: Poses) -> dict[str, Any]:
    """The results of a clip with these poses, as the pipeline files them."""
    findings = find(measured, discipline)
    summary = {
        "total_frames": len(whole),
        "sampled_frames": len(whole),
        "frames_with_pose": int(whole.detected.sum()),
        "detection_rate_percent": measured.detection_rate_percent,
        "video_fps": 30.0,
        "model": "pose_landmarker_full",
        "width": 1280,
        "height": 720,
        "duration_seconds": 3.0,
        "damaged": False,
        **measured.summary(),
    }
    return {
        "pose": {"pose_summary": summary},
        "metrics": {name: metric.as_dict() for name, metric in measured.metrics.items()},
        "findings": findings,
        "report": compose(measured, findings, discipline),
    }


def page(poses: Poses, discipline: str = "batting", frames: list[KeyFrame] | None = None, **about: Any) -> str:
    """The page of one motion, measured as a close-up of itself."""
    measured = measure(poses, [poses] if poses.detected.any() else [], discipline)
    return render(
        results(measured, discipline, poses),
        measured.courses,
        poses,
        frames or [],
        About(discipline=discipline, **about),
    )


def judged(discipline: str, *, detection_rate_percent: float = 100.0, **margins: float) -> Measurements:
    """Metrics so far over (or, below 0, under) their marks, in score; those not named are absent."""
    guide = guidance(discipline)
    metrics = {name: Metric(None, unit, None, 0.0, 0, absent_reason="not seen") for name, unit in UNITS.items()}
    for name, margin in margins.items():
        mark = guide.mark(name)
        assert mark
        score = None if mark.threshold is None else round(mark.threshold + margin, 3)
        value = mark.value + margin if score is None else guide.scales[name].value(score)  # type: ignore[index]
        metrics[name] = Metric(value, UNITS[name], score, 0.9, 20, ((1.5, value),), error=abs(value) / 20)
    return Measurements(metrics, [], "left", None, detection_rate_percent, "high", 1)


def picture(seed: int) -> bytes:
    """A JPEG of 720 x 405 that is as heavy as a film's: grass is noise."""
    rgb = np.random.default_rng(seed).normal(120, 12, (405, 720, 3)).clip(0, 255).astype(np.uint8)
    return bytes(cv2.imencode(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, 82])[1].tobytes())


def key_frame(poses: Poses, at: float, caption: str = "contact", jpeg: bytes | None = None) -> KeyFrame:
    """A picture of a motion at a moment, with its front knee marked."""
    points = poses.image[int(np.argmin(np.abs(poses.times - at)))]
    mark = draw("front_knee_brace_score", 140.0, points, "left")
    assert mark
    return KeyFrame(at, jpeg or picture(0), 1280, 720, points, np.ones(33), caption, at, (mark,))


@cache
def strokes() -> tuple[Poses, list[Poses], Measurements]:
    """Half a minute with eight strokes: the whole clip at 10 frames a second, each stroke at 60, what is measured."""

    def one(fps: float, number: int) -> Poses:
        poses = motions.stroke(fps, knee_deg=100 + 5 * number, seconds=SECONDS_EACH - 0.01)
        return replace(poses, times=poses.times + number * SECONDS_EACH)

    parts = [one(10, number) for number in range(STROKES)]
    whole = replace(parts[0], **{name: np.concatenate([getattr(p, name) for p in parts]) for name in PER_FRAME})
    assert all(b > a for a, b in pairwise(whole.times))
    starts = [number * SECONDS_EACH for number in range(STROKES)]
    closeups = [motions.between(one(60, k), start + 0.7, start + 2.4) for k, start in enumerate(starts)]
    return whole, closeups, measure(whole, closeups, "batting")


def fullest(**about: Any) -> str:
    """A page with all that a page may have: five findings, every measure, eight strokes, six pictures."""
    whole, closeups, measured = strokes()
    low = judged("batting", **dict.fromkeys(UNITS, -0.2) | {"hip_shoulder_separation_timing": -0.1})
    metrics = {
        name: replace(bad, evidence=measured.metrics[name].evidence or bad.evidence)
        for name, bad in low.metrics.items()
    }
    measures = {
        name: metric
        if metric.value is not None
        else Metric(0.5, MEASURES[name][0], None, 0.9, 9, ((1.4, 0.5),), error=0.1)
        for name, metric in measured.measures.items()
    }
    measured = replace(measured, metrics=metrics, measures=measures)
    closest = closeups[0]
    frames = [key_frame(closest, 1.0 + 0.2 * k, f"Moment {k}, with words to it", picture(k)) for k in range(6)]
    return render(
        results(measured, "batting", whole), measured.courses, closest, frames, About(discipline="batting", **about)
    )
