"""Draws a number into an image as an SVG path, on the joints that it was measured from.

MetricSpec.annotation: what to draw ─┐
Trace.joints: which landmarks ───────┴─▶ arc, line or ring in pixels of the image, with the measured number
"""

from collections.abc import Iterable

import numpy as np

from services.analyzer.arrays import Floats
from services.analyzer.biomechanics.kinematics import both_sides, joint_angle
from services.analyzer.biomechanics.model import AnnotationKind, MetricSpec, Trace
from services.analyzer.pose.landmarks import INDEX
from services.analyzer.report.model import Annotation
from services.rules.numbers import format_number

ARC_SHARE = 0.45  # radius of an arc, of the shorter bone
RING_SHARE = 0.3  # radius of a ring, of the torso
LABEL_SHARE = 1.5  # distance of a label from the joint, of the arc's radius
NEARLY_OPPOSITE = 0.05
SHORTEST_BONE_PIXELS = 1.0


def measured_joints(traces: Iterable[Trace], spec: MetricSpec, time_seconds: float) -> tuple[str, ...]:
    """The landmarks that the number was computed from, nearest in time; empty if it was not measured."""
    entries = [entry for trace in traces for entry in trace.joints.get(spec.name, ())]
    nearest = min(sorted(entries), key=lambda entry: abs(entry.time_seconds - time_seconds), default=None)
    return nearest.names if nearest else ()


def annotate(spec: MetricSpec, value: float, points: Floats, joints: tuple[str, ...]) -> Annotation | None:
    """The annotation of one number; None if its spec has none, or a joint was not detected.

    points: (33, 2) pixels; joints: the landmarks that the number was computed from.
    """
    if spec.annotation is None or not joints:
        return None
    measured = points[[INDEX[name] for name in joints]]
    match spec.annotation.kind:
        case AnnotationKind.ANGLE:
            return _arc(spec, value, *measured)
        case AnnotationKind.LEAN:
            shoulder, hip = _mean(measured, joints, "shoulder"), _mean(measured, joints, "hip")
            return _arc(spec, value, shoulder, hip, hip - np.array([0.0, np.linalg.norm(shoulder - hip)]))
        case AnnotationKind.STRIDE:
            left, right = _of_part(measured, joints, "left"), _of_part(measured, joints, "right")
            ground = float(measured[:, 1].max())
            return _line(spec, value, *(np.array([foot[:, 0].mean(), ground]) for foot in (left, right)))
        case AnnotationKind.DROP:
            low, high = measured
            return _line(spec, value, np.array([low[0], high[1]]), low)
        case AnnotationKind.RING:
            return _ring(spec, value, measured.mean(axis=0), _torso_pixels(points))


def _arc(spec: MetricSpec, value: float, one: Floats, vertex: Floats, other: Floats) -> Annotation | None:
    """An arc at the vertex between the directions of two points."""
    if not np.isfinite([one, vertex, other]).all():
        return None
    bones = [end - vertex for end in (one, other)]
    lengths = [float(np.linalg.norm(bone)) for bone in bones]
    if min(lengths) < SHORTEST_BONE_PIXELS:
        return None
    radius = ARC_SHARE * min(lengths)
    a, b = (bone / length for bone, length in zip(bones, lengths, strict=True))
    start, end = vertex + radius * a, vertex + radius * b
    sweep = int(a[0] * b[1] - a[1] * b[0] > 0)
    between = a + b if np.linalg.norm(a + b) > NEARLY_OPPOSITE else np.array([-a[1], a[0]])
    label_at = vertex + LABEL_SHARE * radius * between / np.linalg.norm(between)
    path = f"M{start[0]:.1f} {start[1]:.1f}A{radius:.1f} {radius:.1f} 0 0 {sweep} {end[0]:.1f} {end[1]:.1f}"
    return _annotation(spec, value, path, label_at, float(joint_angle(one, vertex, other)))


def _line(spec: MetricSpec, value: float, a: Floats, b: Floats) -> Annotation | None:
    if not np.isfinite([a, b]).all():
        return None
    return _annotation(spec, value, f"M{a[0]:.1f} {a[1]:.1f}L{b[0]:.1f} {b[1]:.1f}", (a + b) / 2)


def _ring(spec: MetricSpec, value: float, centre: Floats, torso: float) -> Annotation | None:
    """A ring around a place whose distance from its mean place is the number. torso: pixels."""
    if not np.isfinite([*centre, torso]).all():
        return None
    x, y = centre
    r = RING_SHARE * torso
    path = f"M{x - r:.1f} {y:.1f}a{r:.1f} {r:.1f} 0 1 1 {2 * r:.1f} 0a{r:.1f} {r:.1f} 0 1 1 {-2 * r:.1f} 0z"
    return _annotation(spec, value, path, np.array([x, y - 1.6 * r]))


def _annotation(
    spec: MetricSpec, value: float, path: str, label_at: Floats, degrees: float | None = None
) -> Annotation:
    label = format_number(value, spec.unit)
    return Annotation(spec, value, path, label, (round(float(label_at[0]), 1), round(float(label_at[1]), 1)), degrees)


def _of_part(measured: Floats, joints: tuple[str, ...], part: str) -> Floats:
    """(k, 2) pixels of the joints with a part ("left", "hip") in their name."""
    return measured[[part in name for name in joints]]


def _mean(measured: Floats, joints: tuple[str, ...], part: str) -> Floats:
    return np.asarray(_of_part(measured, joints, part).mean(axis=0))


def _torso_pixels(points: Floats) -> float:
    shoulder, hip = (points[[INDEX[name] for name in both_sides(part)]].mean(axis=0) for part in ("shoulder", "hip"))
    return float(np.linalg.norm(shoulder - hip))
