"""Selects the moments that a report shows and fetches their images.

The claimed action comes first, then findings, worst moments and the other events.

Each image has the numbers of its moment drawn on the joints that they were measured from.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

import cv2
import numpy as np

from services.analyzer.arrays import Floats, Indices
from services.analyzer.artifacts.anonymization import Anonymizer, anonymized
from services.analyzer.artifacts.result import AnalysisResult
from services.analyzer.biomechanics.labels import event_caption
from services.analyzer.biomechanics.model import AnnotationKind, Evidence, Metric, MetricSpec, Trace
from services.analyzer.pose.landmarks import Poses
from services.analyzer.pose.passes import PoseResult
from services.analyzer.pose.skeleton import skeleton_at
from services.analyzer.report.annotations import annotate, measured_joints
from services.analyzer.report.model import Annotation, Box, KeyFrame, Still
from services.analyzer.settings import Limits
from services.analyzer.video.frames import RGB, Losses, Picture, pictures
from services.analyzer.video.probe import Video
from services.analyzer.video.sampling import every, nearest

MOST_KEY_FRAMES = 6
LONG_SIDE = 720
JPEG_QUALITY = 82
THUMBNAIL_WIDTH = 320
# The film in the player: about a second of one action, cropped to the athlete. Over the limit every second frame goes.
FILM_LONG_SIDE, FILM_QUALITY, MOST_FILM_BYTES = 960, 66, 1_000_000
FILM_MARGIN_SECONDS, LONGEST_FILM_SECONDS, FILM_MARGIN = 0.2, 3.0, 0.15
# Nearer moments share one image, with both captions.
APART_SECONDS = 0.05
# Of the numbered boxes around people, RGB.
BOX_COLOUR, OUTLINE_COLOUR = (255, 210, 0), (0, 0, 0)


class NumberAt(NamedTuple):
    """A number and its value at one moment."""

    spec: MetricSpec
    value: float


class _Caption(NamedTuple):
    """A moment and its caption."""

    time_seconds: float
    text: str


@dataclass
class Moment:
    """A moment to show, with its captions and the numbers that were measured at it."""

    time_seconds: float
    captions: list[str]
    numbers: list[NumberAt] = field(default_factory=list)


def key_frames(
    video: Video, poses: Poses, result: AnalysisResult, limits: Limits, anonymizer: Anonymizer | None = None
) -> list[KeyFrame]:
    """The report's images with landmarks and annotations, in order of time."""
    shown = {nearest(video.times, moment.time_seconds): moment for moment in moments(result)}
    wanted = np.array(sorted(shown), dtype=np.intp)
    traces = result.measurements.traces
    images = _images(video, wanted, limits, LONG_SIDE, anonymizer)
    return [_key_frame(image, poses, shown[image.index], traces) for image in images]


def people_in_view(
    video: Video, seen: PoseResult, limits: Limits, anonymizer: Anonymizer | None = None
) -> list[KeyFrame]:
    """The image that asks who is the player, with a numbered box around each candidate; empty if nobody asks."""
    if len(seen.candidates) < 2:
        return []
    wanted = np.array([nearest(video.times, seen.candidates_seconds)], dtype=np.intp)
    return [_numbered(image, seen) for image in _images(video, wanted, limits, LONG_SIDE, anonymizer)]


def _numbered(image: Picture, seen: PoseResult) -> KeyFrame:
    rgb = np.ascontiguousarray(image.rgb).copy()
    height, width = rgb.shape[:2]
    thick, letter = max(2, round(width / 240)), width / 480
    for number, candidate in enumerate(seen.candidates, start=1):
        box = candidate.shown
        x, y = round(box.left * width), round(box.top * height)
        corner = (round((box.left + box.width) * width), round((box.top + box.height) * height))
        cv2.rectangle(rgb, (x, y), corner, BOX_COLOUR, thick)
        place = (x + 2 * thick, y + round(24 * letter))
        for colour, width_of_line in ((OUTLINE_COLOUR, 3 * thick), (BOX_COLOUR, thick)):
            cv2.putText(rgb, str(number), place, cv2.FONT_HERSHEY_SIMPLEX, letter, colour, width_of_line)
    return KeyFrame(
        time_seconds=image.time_seconds,
        jpeg=_jpeg(rgb, JPEG_QUALITY),
        width=width,
        height=height,
        points=np.full((33, 2), np.nan),
        visibility=np.zeros(33),
        moment_seconds=seen.candidates_seconds,
        caption="Which one is the player?",
        is_first=True,
    )


def thumbnail(
    video: Video,
    poses: Poses,
    result: AnalysisResult,
    shown: Sequence[KeyFrame],
    limits: Limits,
    anonymizer: Anonymizer | None = None,
) -> bytes:
    """A small JPEG of the first finding's frame, else of the middle frame with the athlete; empty if it is damaged.

    shown: the report's images, of which the finding's frame is one.
    """
    moment = result.findings.first_moment
    if moment is not None and shown:
        frame = min(shown, key=lambda frame: abs(frame.moment_seconds - moment))
        rgb = _decoded(frame.jpeg)
    else:
        seen = poses.times[poses.detected] if poses.detected.any() else video.times
        middle = seen[np.argmin(np.abs(seen - (seen[0] + seen[-1]) / 2))]
        wanted = np.array([int(np.argmin(np.abs(video.times - middle)))], dtype=np.intp)
        picture = next(_images(video, wanted, limits, LONG_SIDE, anonymizer), None)
        if picture is None:
            return b""
        rgb = picture.rgb
    height, width = rgb.shape[:2]
    size = (THUMBNAIL_WIDTH, max(round(height * THUMBNAIL_WIDTH / width), 1))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    return _jpeg(small, JPEG_QUALITY)


def stills(
    video: Video, poses: Poses, result: AnalysisResult, limits: Limits, anonymizer: Anonymizer | None = None
) -> list[Still]:
    """The film of the first finding's action, cropped to the athlete; empty for an action of over three seconds."""
    moment = result.findings.first_moment or 0.0
    traces = result.measurements.traces
    trace = min(traces, key=lambda trace: max(trace.start - moment, moment - trace.end, 0.0), default=None)
    if trace is None or trace.end - trace.start > LONGEST_FILM_SECONDS:
        return []
    start, end = trace.start - FILM_MARGIN_SECONDS, trace.end + FILM_MARGIN_SECONDS
    box = _athlete_box(poses, start, end)
    if box is None:
        return []
    images = _images(video, every(video.times, start, end), limits, FILM_LONG_SIDE, anonymizer)
    film = [Still(image.time_seconds, _jpeg(_cropped(image.rgb, box), FILM_QUALITY), box) for image in images]
    while sum(len(still.jpeg) for still in film) > MOST_FILM_BYTES:
        film = film[::2]
    return film


def _images(
    video: Video, wanted: Indices, limits: Limits, long_side: int, anonymizer: Anonymizer | None
) -> Iterator[Picture]:
    """The wanted images, anonymized if there is an anonymizer. Every image of the report comes through here."""
    return (anonymized(picture, anonymizer) for picture in pictures(video, wanted, limits, Losses(), long_side))


def _athlete_box(poses: Poses, start: float, end: float) -> Box | None:
    """The box around the athlete through a stretch of time, as shares of the image; None without a detection."""
    points = poses.image[(poses.times >= start) & (poses.times <= end)].reshape(-1, 2)
    points = points[np.isfinite(points).all(axis=1)] / (poses.width, poses.height)
    if not len(points):
        return None
    low, high = points.min(axis=0), points.max(axis=0)
    margin = FILM_MARGIN * (high - low).max()
    (left, top), (right, bottom) = np.clip(low - margin, 0, 1), np.clip(high + margin, 0, 1)
    if right <= left or bottom <= top:
        return None
    return Box(float(left), float(top), float(right - left), float(bottom - top))


def _cropped(rgb: RGB, box: Box) -> RGB:
    height, width = rgb.shape[:2]
    x, y, across, down = box
    return np.ascontiguousarray(
        rgb[int(y * height) : max(int((y + down) * height), 1), int(x * width) : max(int((x + across) * width), 1)]
    )


def moments(result: AnalysisResult) -> list[Moment]:
    """The moments to show, by priority, at most six; moments within 0.05 s are one."""
    chosen: list[Moment] = []
    for time_seconds, caption in chain(_claimed(result), _findings(result), _worst_moments(result), _events(result)):
        same = next((known for known in chosen if abs(known.time_seconds - time_seconds) < APART_SECONDS), None)
        if same is not None:
            same.captions += [caption] if caption not in same.captions else []
        elif len(chosen) < MOST_KEY_FRAMES:
            chosen.append(Moment(time_seconds, [caption]))
    for moment in chosen:
        moment.numbers = list(_numbers_at(result, moment.time_seconds))
    return chosen


def _claimed(result: AnalysisResult) -> list[_Caption]:
    """The moment of the action that the first finding is about, or else of the first action."""
    return [caption for caption in _events(result) if caption.time_seconds in _action_seconds(result)][:1]


def _action_seconds(result: AnalysisResult) -> set[float]:
    return {round(repetition.time_seconds, 3) for repetition in result.measurements.repetitions}


def _findings(result: AnalysisResult) -> list[_Caption]:
    found = result.findings.findings
    return [_Caption(each.time_seconds, each.title) for each in found if each.time_seconds is not None]


def _worst_moments(result: AnalysisResult) -> list[_Caption]:
    """The worst moment of each number whose spec has a caption for it, by rank; a finding has its own words for it."""
    found = [finding.metric for finding in result.findings.findings]
    ranked = [
        (metric.spec.worst_moment, metric.evidence[0])
        for metric in result.measurements.everything.values()
        if metric.spec.worst_moment and metric.evidence and metric.spec not in found
    ]
    ranked.sort(key=lambda pair: pair[0].rank)
    return [_Caption(evidence.time_seconds, spec.caption) for spec, evidence in ranked]


def _events(result: AnalysisResult) -> list[_Caption]:
    """All events, the nearest to the first finding first."""
    moment = result.findings.first_moment or 0.0
    events = [_Caption(round(each.time_seconds, 3), event_caption(each)) for each in result.measurements.events]
    return sorted(events, key=lambda event: abs(event.time_seconds - moment))


def _numbers_at(result: AnalysisResult, moment: float) -> Iterator[NumberAt]:
    """Each number that has evidence within 0.05 s of a moment, scored numbers first."""
    single_action = result.measurements.actions <= 1
    for metric in result.measurements.everything.values():
        near = [
            (abs(time_seconds - moment), value)
            for time_seconds, value in _shown_evidence(metric, single_action)
            if abs(time_seconds - moment) < APART_SECONDS
        ]
        if near:
            yield NumberAt(metric.spec, min(near)[1])


def _shown_evidence(metric: Metric, single_action: bool) -> Sequence[Evidence]:
    """The evidence that an image may show: all of a number of one moment; of a stretch, the only action's worst."""
    if metric.spec.single_moment:
        return metric.evidence
    return metric.evidence[:1] if single_action else ()


def _key_frame(image: Picture, poses: Poses, moment: Moment, traces: Sequence[Trace]) -> KeyFrame:
    height, width = image.rgb.shape[:2]
    points, visibility = skeleton_at(poses, image.time_seconds)
    points = points * (width / poses.width, height / poses.height)
    return KeyFrame(
        time_seconds=image.time_seconds,
        jpeg=_jpeg(image.rgb, JPEG_QUALITY),
        width=width,
        height=height,
        points=points,
        visibility=visibility,
        moment_seconds=moment.time_seconds,
        caption="; ".join(moment.captions),
        annotations=tuple(_annotations(moment, points, traces)),
    )


def _annotations(moment: Moment, points: Floats, traces: Sequence[Trace]) -> Iterator[Annotation]:
    """The annotations of a moment's numbers: one for each shape and set of joints, of the first number with it."""
    drawn: set[tuple[AnnotationKind, tuple[str, ...]]] = set()
    for spec, value in moment.numbers:
        joints = measured_joints(traces, spec, moment.time_seconds)
        annotation = annotate(spec, value, points, joints)
        if spec.annotation and annotation and (key := (spec.annotation.kind, joints)) not in drawn:
            drawn.add(key)
            yield annotation


def _decoded(jpeg: bytes) -> RGB:
    decoded = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None  # noqa: S101 (a JPEG of _jpeg)
    return np.ascontiguousarray(decoded[..., ::-1]).astype(np.uint8, copy=False)


def _jpeg(rgb: RGB, quality: int) -> bytes:
    _, jpeg = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return jpeg.tobytes()
