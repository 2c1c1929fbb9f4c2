"""Builds report pages for tests: of drawn motions, of given scores, and one with everything that a page can hold."""

from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

import cv2
import numpy as np

from services.analyzer.artifacts.result import AnalysisResult, ClipSummary, Run
from services.analyzer.biomechanics.events import SIGNED, EventName
from services.analyzer.biomechanics.kinematics import KNEE, Side, landmarks_of
from services.analyzer.biomechanics.measurement import measure
from services.analyzer.biomechanics.model import Evidence, Measurements, Metric, MetricSpec, Reliability, Repetition
from services.analyzer.biomechanics.registry import FRONT_KNEE_BRACE, METRICS, SPECS, guidance
from services.analyzer.coaching.findings import find
from services.analyzer.coaching.summary import compose
from services.analyzer.pose.landmarks import PER_FRAME, Poses
from services.analyzer.report.annotations import annotate
from services.analyzer.report.metadata import Metadata
from services.analyzer.report.model import KeyFrame
from services.analyzer.report.page import render
from services.naming import POSE_MODEL, Discipline
from testing.data import motions

HOSTILE = (
    "<script>alert(1)</script></style></title>\"'><img src=x onerror=alert(2)>{{ 7 * 7 }}"
    "\u202e\u2066 right to left \u0634\u0639\u064a\u0628 \U0001f3cf\U0001f468\u200d\U0001f469\u200d\U0001f467"
    " ]]> --> \\u003c/script>\u2028"
)
LONG_HOSTILE = (HOSTILE * 50)[:5000]
STROKES, SECONDS_EACH = 8, 3.75
GIVEN_THROW = Repetition(EventName.THROW, 1.5, Side.RIGHT, None, Side.LEFT, {}, frozenset({EventName.THROW}))


def result_of(measured: Measurements, discipline: str, whole: Poses) -> AnalysisResult:
    """The result of a clip with these poses, as the pipeline makes it."""
    findings = find(measured, discipline)
    clip = ClipSummary(
        total_frames=len(whole),
        sampled_frames=len(whole),
        frames_with_pose=int(whole.detected.sum()),
        video_fps=30.0,
        declared_fps=30.0,
        capture_fps=None,
        slowdown=1.0,
        model=POSE_MODEL,
        width=whole.width,
        height=whole.height,
        rotation_degrees=0,
        duration_seconds=3.0,
        container="mp4",
        codec="h264",
        pixel_format="yuv420p",
        hdr=None,
        mirrored=False,
        longest_gap_seconds=0.0,
        damage=None,
        people_in_view=1,
        chosen_by="alone",
        certainty=1.0,
    )
    return AnalysisResult(
        clip, Run("deep", "cpu", "tests"), measured, findings, compose(measured, findings, discipline)
    )


def page(poses: Poses, discipline: str = "batting", frames: list[KeyFrame] | None = None, **metadata: Any) -> str:
    """The page of one motion, measured as a close-up of itself. metadata: fields of `Metadata`."""
    measured = measure(poses, [poses] if poses.detected.any() else [], discipline)
    about = Metadata(discipline=discipline, **metadata)
    return render(result_of(measured, discipline, poses), poses, frames or [], about)


def with_margins(discipline: str, *, detection_rate_percent: float = 100.0, **margins: float) -> Measurements:
    """Measurements whose scores are this far above (or, negative, below) their marks; metrics not named are absent.

    The client gives the moment of a throw or a take, without which neither is judged.
    """
    metrics = {spec.name: Metric.absent(spec, "not seen") for spec in METRICS}
    metrics |= {name: _metric(SPECS[name], discipline, margin) for name, margin in margins.items()}
    measured = Measurements(metrics, [], Side.LEFT, None, detection_rate_percent, Reliability.HIGH, 1)
    if discipline in SIGNED:
        return measured
    return replace(measured, repetitions=(GIVEN_THROW,))


def _metric(spec: MetricSpec, discipline: str, margin: float) -> Metric:
    guide = guidance(discipline)
    mark = guide.mark(spec.name)
    assert mark
    score = round(mark.threshold + margin, 3)
    values, scores = zip(*guide.scales[spec.name].points, strict=True)
    order = np.argsort(scores)
    value = float(np.interp(score, np.array(scores)[order], np.array(values)[order]))
    return Metric(spec, value, score, 0.9, 20, (Evidence(1.5, value),), random_error=abs(value) / 20)


def picture(seed: int) -> bytes:
    """A JPEG of 720 x 405 with noise, which makes it as large as one of grass."""
    rgb = np.random.default_rng(seed).normal(120, 12, (405, 720, 3)).clip(0, 255).astype(np.uint8)
    return bytes(cv2.imencode(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, 82])[1].tobytes())


def key_frame(poses: Poses, at: float, caption: str = "contact", jpeg: bytes | None = None) -> KeyFrame:
    """A picture of a motion at a moment, annotated with its front knee."""
    points = poses.image[int(np.argmin(np.abs(poses.times - at)))]
    annotation = annotate(FRONT_KNEE_BRACE, 140.0, points, landmarks_of(Side.LEFT, KNEE))
    assert annotation
    return KeyFrame(at, jpeg or picture(0), 1280, 720, points, np.ones(33), at, caption, (annotation,))


@cache
def strokes() -> tuple[Poses, list[Poses], Measurements]:
    """Half a minute with eight strokes: the whole clip at 10 frames a second, each stroke at 60, the measurements."""

    def one(fps: float, number: int) -> Poses:
        poses = motions.stroke(fps, knee_deg=85 + 5 * number, seconds=SECONDS_EACH - 0.01)
        return replace(poses, times=poses.times + number * SECONDS_EACH)

    parts = [one(10, number) for number in range(STROKES)]
    columns: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in PER_FRAME}
    whole = replace(parts[0], **columns)
    assert all(b > a for a, b in pairwise(whole.times))
    starts = [number * SECONDS_EACH for number in range(STROKES)]
    closeups = [motions.between(one(60, k), start + 0.7, start + 2.4) for k, start in enumerate(starts)]
    return whole, closeups, measure(whole, closeups, "batting")


def fullest(**metadata: Any) -> str:
    """A page with everything: four findings, every number of a delivery, eight strokes, six pictures.

    No film has more numbers. metadata: of `Metadata`.
    """
    whole, closeups, measured = strokes()
    margins = {spec.name: -0.2 for spec in METRICS if not spec.absent_reason}
    metrics = {
        name: replace(low, evidence=measured.metrics[name].evidence or low.evidence)
        for name, low in with_margins("batting", **margins).metrics.items()
    }
    measures = {
        name: metric
        if metric.value is not None or Discipline.BOWLING not in metric.spec.disciplines
        else Metric(metric.spec, 0.5, None, 0.9, 9, (Evidence(1.4, 0.5),), random_error=0.1)
        for name, metric in measured.measures.items()
    }
    result = result_of(replace(measured, metrics=metrics, measures=measures), "batting", whole)
    closest = closeups[0]
    frames = [key_frame(closest, 1.0 + 0.2 * k, f"Moment {k}, with words to it", picture(k)) for k in range(6)]
    return render(result, closest, frames, Metadata(discipline="batting", **metadata))
