"""Draws a number into the picture it was read off: an angle as an arc with its degrees, a distance as a line,
how far something is off its mean place as a ring around it.

Everything is in the picture's pixels and hangs on the landmarks that are drawn there, so that what is marked is what
was measured; the number beside it is the measured one.
"""

from dataclasses import dataclass

import numpy as np

from services.analyzer.biomechanics.kinematics import HEAD
from services.analyzer.pose.landmarks import INDEX, Floats

ARC_SHARE = 0.45  # of the shorter bone
RING_SHARE = 0.3  # of the torso
LABEL_SHARE = 1.5  # of the arc's radius, from the joint


@dataclass(frozen=True)
class Drawn:
    """One number in a picture: an SVG path with its label. degrees: what the drawn arc spans, None for a line."""

    metric: str
    value: float
    unit: str
    path: str
    label: str
    at: tuple[float, float]
    degrees: float | None = None


def draw(metric: str, value: float, points: Floats, side: str | None) -> Drawn | None:
    """The mark of one number; None where it has none, or its joints are not seen. side: of the leg or arm it is of."""
    if metric in ("front_knee_brace_score", "front_knee_at_contact", "front_knee_at_release") and side:
        return _arc(metric, value, *(points[INDEX[f"{side}_{joint}"]] for joint in ("hip", "knee", "ankle")))
    shoulder, hip = (_middle(points, part) for part in ("shoulder", "hip"))
    if metric == "trunk_lateral_flexion_at_release":
        return _arc(metric, value, shoulder, hip, hip - np.array([0.0, np.linalg.norm(shoulder - hip)]))
    if metric == "stride_length":
        feet = [points[[INDEX[f"{s}_{part}"] for part in ("ankle", "heel", "foot_index")]] for s in ("left", "right")]
        (xa, _), (xb, _) = (foot.mean(axis=0) for foot in feet)
        ground = max(float(foot[:, 1].max()) for foot in feet)
        return _line(metric, value, np.array([xa, ground]), np.array([xb, ground]))
    if metric == "elbow_drop_score" and side:
        elbow, top = (points[INDEX[f"{side}_{joint}"]] for joint in ("elbow", "shoulder"))
        return _line(metric, value, np.array([elbow[0], top[1]]), elbow)
    if metric == "head_stability_score":
        return _ring(metric, value, points[[INDEX[name] for name in HEAD]].mean(axis=0), points)
    if metric == "balance_drift_score":
        return _ring(metric, value, (shoulder + hip) / 2, points)
    return None


def _arc(metric: str, value: float, one: Floats, joint: Floats, other: Floats) -> Drawn | None:
    """The angle at a joint between the ways to two points."""
    if not np.isfinite([one, joint, other]).all():
        return None
    ways = [end - joint for end in (one, other)]
    lengths = [float(np.linalg.norm(way)) for way in ways]
    if min(lengths) < 1:
        return None
    radius = ARC_SHARE * min(lengths)
    a, b = (way / length for way, length in zip(ways, lengths, strict=True))
    start, end = joint + radius * a, joint + radius * b
    sweep = int(a[0] * b[1] - a[1] * b[0] > 0)
    degrees = float(np.degrees(np.arccos(np.clip(a @ b, -1, 1))))
    between = a + b if np.linalg.norm(a + b) > 0.05 else np.array([-a[1], a[0]])
    at = joint + LABEL_SHARE * radius * between / np.linalg.norm(between)
    path = f"M{start[0]:.1f} {start[1]:.1f}A{radius:.1f} {radius:.1f} 0 0 {sweep} {end[0]:.1f} {end[1]:.1f}"
    return Drawn(metric, value, "deg", path, f"{value:.0f}°", (round(float(at[0]), 1), round(float(at[1]), 1)), degrees)


def _line(metric: str, value: float, a: Floats, b: Floats) -> Drawn | None:
    if not np.isfinite([a, b]).all():
        return None
    at = (a + b) / 2
    path = f"M{a[0]:.1f} {a[1]:.1f}L{b[0]:.1f} {b[1]:.1f}"
    unit = "body heights" if metric == "stride_length" else "body lengths"
    return Drawn(metric, value, unit, path, f"{value:.2f}", (round(float(at[0]), 1), round(float(at[1]), 1)))


def _ring(metric: str, value: float, at: Floats, points: Floats) -> Drawn | None:
    """Around a place whose distance from its mean place is the number."""
    torso = float(np.linalg.norm(_middle(points, "shoulder") - _middle(points, "hip")))
    if not np.isfinite([*at, torso]).all():
        return None
    r = RING_SHARE * torso
    path = f"M{at[0] - r:.1f} {at[1]:.1f}a{r:.1f} {r:.1f} 0 1 1 {2 * r:.1f} 0a{r:.1f} {r:.1f} 0 1 1 {-2 * r:.1f} 0z"
    above = (round(float(at[0]), 1), round(float(at[1] - 1.6 * r), 1))
    return Drawn(metric, value, "body lengths", path, f"{value:.2f}", above)


def _middle(points: Floats, part: str) -> Floats:
    return np.asarray((points[INDEX[f"left_{part}"]] + points[INDEX[f"right_{part}"]]) / 2)
