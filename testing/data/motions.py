"""Makes movements whose exact answer is known: a stick figure in pixels that sways, hinges, bowls and strides.

The figure is 100 px from shoulders to hips, thigh and shank are 80 px each: a torso is 100 px, a body 260 px. It stands
in an image of 1280 x 720, filmed from the side, feet at y = 560. Each function takes the sampling rate.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.interpolate import PchipInterpolator

from services.analyzer.arrays import Floats
from services.analyzer.pose.landmarks import INDEX, LANDMARKS, PER_FRAME, Poses

TORSO, BODY = 100.0, 260.0
WIDTH, HEIGHT = 1280, 720
HIP = np.array([640.0, 400.0])
SHOULDER = HIP - np.array([0, TORSO])
HEAD = SHOULDER - np.array([0, 40])
THIGH = 80.0
ARM = 90.0  # shoulder to wrist
STRIDE = 180.0  # between a bowler's feet
TOES, STEP = 30.0, 60.0  # of a batter who is filmed along the pitch: beside the heels; between the feet
# By part, standard deviations in bodies of the pose model's errors over eight rendered films, against their rigs: of
# the mean over an action, about that mean, and from frame to frame.
POSE_ERRORS = {
    "nose": (0.009, 0.008, 0.001),
    "ear": (0.023, 0.007, 0.001),
    "shoulder": (0.021, 0.013, 0.001),
    "elbow": (0.023, 0.024, 0.003),
    "wrist": (0.018, 0.023, 0.004),
    "hip": (0.021, 0.012, 0.001),
    "knee": (0.009, 0.010, 0.002),
    "ankle": (0.013, 0.008, 0.002),
    "heel": (0.021, 0.012, 0.002),
    "foot_index": (0.013, 0.010, 0.002),
}
SLOW_SECONDS = 0.3
# Trunk, thigh and shank are 0.779 of stature.
STATURE = BODY / 0.779


def clock(fps: float, seconds: float) -> Floats:
    """Time stamps from 0 to `seconds`, both included."""
    return np.arange(0, seconds * fps + 1e-6) / fps


def still(fps: float, seconds: float = 3.0) -> Poses:
    """A figure that stands still: arms hang, both feet under the hips."""
    times = clock(fps, seconds)
    image = np.tile(_figure(), (len(times), 1, 1))
    n = len(times)
    visibility, presence = np.full((n, 33), 0.99), np.full((n, 33), 0.99)
    return Poses(times, image, np.zeros((n, 33, 3)), visibility, presence, np.ones(n), WIDTH, HEIGHT)


def undetected(fps: float, seconds: float = 3.0) -> Poses:
    """Frames without a detection."""
    poses = still(fps, seconds)
    return replace(
        poses,
        image=np.full_like(poses.image, np.nan),
        world=np.full_like(poses.world, np.nan),
        visibility=np.full_like(poses.visibility, np.nan),
        people=np.zeros(len(poses)),
    )


def sway(fps: float, amplitude_bodies: float, hz: float = 0.5, seconds: float = 4.6) -> Poses:
    """A figure that sways above the feet as a sine: the RMS is amplitude / sqrt(2) over whole periods."""
    poses = still(fps, seconds)
    x = amplitude_bodies * BODY * np.sin(2 * np.pi * hz * poses.times)
    for name in LANDMARKS:
        if not any(part in name for part in ("ankle", "heel", "foot")):
            poses.image[:, INDEX[name], 0] += x
    return poses


def hinge(fps: float, start_deg: float, deg_per_second: float, seconds: float = 2.0) -> Poses:
    """Knees that open at a constant rate; the thigh hangs, the shank swings."""
    poses = still(fps, seconds)
    bend = np.radians(180 - (start_deg + deg_per_second * poses.times))
    for side in ("left", "right"):
        knee = poses.point(f"{side}_knee")
        shank = THIGH * np.stack([-np.sin(bend), np.cos(bend)], axis=1)
        for part in ("ankle", "heel", "foot_index"):
            poses.image[:, INDEX[f"{side}_{part}"]] = knee + shank
    return poses


def stroke(fps: float, landing: float = 1.4, hands: float = 1.65, seconds: float = 3.0, knee_deg: float = 140) -> Poses:
    """A stroke: the left foot steps, down at `landing`; both hands are lifted, then swing, fastest at `hands`."""
    poses = still(fps, seconds)
    _step(poses, "left", landing, 200.0)
    _front_knee(poses, "left", knee_deg)
    turn = swing(poses.times, hands)
    for side in ("left", "right"):
        point_arm(poses, side, np.pi - turn)
    return poses


def swing(times: Floats, hands: float) -> Floats:
    """(n,) radians of both arms from straight down: 60 degrees up in 0.3 s, then a sweep that is fastest at `hands`.

    The sweep is logistic: 120 degrees, at 12 torsos a second in its middle.
    """
    lifted = np.clip((times - hands + 0.7) / 0.3, 0, 1)
    return np.asarray(np.radians(60 * lifted**2 * (3 - 2 * lifted) - 120 / (1 + np.exp(-(times - hands) / 0.04))))


def delivery(
    fps: float, upright: float = 1.4, landing: float = 1.25, seconds: float = 2.4, side: str = "right"
) -> Poses:
    """A delivery: the arm turns at 1,000 degrees a second, upright at `upright`; the other foot steps before it."""
    poses = still(fps, seconds)
    front = "left" if side == "right" else "right"
    _step(poses, front, landing, 200.0)
    _front_knee(poses, front, 160)
    point_arm(poses, side, np.radians(np.clip(1000 * (poses.times - upright), -185, 185)))
    return poses


def bowler(
    fps: float,
    *,
    upright: float = 8.6,
    landing: float = 8.45,
    knee_deg: tuple[float, float] = (160, 160),
    elbow_deg: tuple[float, float] = (180, 180),
    run_up: tuple[float, float] = (500, 400),
    seconds: float = 9.0,
) -> Poses:
    """A delivery with all answers known; release is 30 ms after the arm is upright.

    run_up: (px/s, px/s2) at landing, when the feet are STRIDE px apart. knee_deg, elbow_deg: (start, release). The
    front knee opens from landing, the bowling elbow from the arm's level.
    """
    poses = still(fps, seconds)
    release = upright + 0.030
    elbow = np.interp(poses.times, [upright - 0.09, release], elbow_deg)
    point_arm(poses, "right", np.radians(np.clip(1000 * (poses.times - upright), -185, 185)), elbow)
    speed, gain = run_up
    before = np.clip(landing - poses.times, 0, 0.9)
    after = np.clip(poses.times - landing, 0, 0.15)
    path = -(speed * before - gain * before**2 / 2) + speed * (after - after**2 / 0.3)
    poses.image[..., 0] += path[:, None]
    # The rear foot is down 0.25 s before the front foot, and is dragged after it.
    _plant(
        poses,
        "right",
        landing - 0.25,
        HIP[0] + 60 - STRIDE,
        drag=60 * np.clip((poses.times - landing - 0.1) / 0.3, 0, 1),
    )
    _plant(poses, "left", landing, HIP[0] + 60)
    _front_knee(poses, "left", np.interp(poses.times, [landing, release], knee_deg))
    _front_knee(poses, "right", 180)
    return poses


def from_behind(poses: Poses, lean_deg: float) -> Poses:
    """The motion filmed along the pitch: shoulders 40 px wide, the trunk leaning left, feet apart in depth."""
    image, world = poses.image.copy(), poses.world.copy()
    lean = np.radians(lean_deg)
    for name in LANDMARKS:
        if (
            any(part in name for part in ("shoulder", "elbow", "wrist", "pinky", "index", "thumb"))
            and "foot" not in name
        ):
            image[:, INDEX[name], 0] += 20 if "right" in name else -20
    upper = [INDEX[n] for n in LANDMARKS if not any(part in n for part in ("hip", "knee", "ankle", "heel", "foot"))]
    image[:, upper, 0] -= TORSO * np.sin(lean)
    image[:, upper, 1] += TORSO * (1 - np.cos(lean))
    for part in ("ankle", "heel", "foot_index"):
        world[:, INDEX[f"left_{part}"], 2] = -0.8
    return replace(poses, image=image, world=world)


def batter_along_pitch(fps: float, lean_deg: float = 20) -> Poses:
    """A stroke filmed along the pitch, the toes to the left, legs straight. The hands are lowest at 1.65 s."""
    poses = from_behind(stroke(fps, knee_deg=180), lean_deg)
    for side in ("left", "right"):
        poses.image[:, INDEX[f"{side}_foot_index"], 0] -= TOES
    return poses


def jump(fps: float, height_bodies: float = 0.3, seconds: float = 3.0) -> Poses:
    """A jump with vertical edges: the body is up for half a second."""
    poses = still(fps, seconds)
    poses.image[(poses.times >= 1.2) & (poses.times < 1.7), :, 1] -= height_bodies * BODY
    return poses


def pendulum(fps: float, swing_deg: float = 40, hz: float = 0.8, seconds: float = 4.6) -> Poses:
    """Arms that swing as pendulums: a hand is fastest at the bottom, at 2 pi hz * swing * arm."""
    poses = still(fps, seconds)
    angle = np.pi + np.radians(swing_deg) * np.sin(2 * np.pi * hz * poses.times)
    for side in ("left", "right"):
        point_arm(poses, side, angle)
    return poses


def walker(fps: float, *, strides_hz: float = 0.9, swing_deg: float = 30, seconds: float = 4.0) -> Poses:
    """A walker or runner across the image: arms against legs, each foot down for 0.6 of its stride."""
    poses = still(fps, seconds)
    speed = 270.0  # px/s, a brisk walk
    poses.image[..., 0] += (speed * (poses.times - seconds / 2))[:, None]
    for side, ahead in (("left", 0.0), ("right", 0.5)):
        phase = strides_hz * poses.times + ahead
        swing = np.radians(swing_deg) * np.sin(2 * np.pi * phase)
        point_arm(poses, side, np.pi + swing)
        # In strides: the foot stands for 0.6, then swings forward; the middle of its stand is under the hips.
        swung = np.clip((phase % 1 - 0.6) / 0.4, 0, 1)
        ahead_of_hips = speed / strides_hz * (np.floor(phase) + swung**2 * (3 - 2 * swung) - phase + 0.3)
        for part in ("ankle", "heel", "foot_index"):
            poses.image[:, INDEX[f"{side}_{part}"], 0] += ahead_of_hips
        _front_knee(poses, side, 165)
    return poses


def turning(fps: float, lag_seconds: float, seconds: float = 3.0) -> Poses:
    """A stroke whose hips turn by 80 degrees in space around 1.5 s, and whose shoulders do so `lag_seconds` later."""
    poses = stroke(fps, seconds=seconds)
    for part, at in (("hip", 1.5), ("shoulder", 1.5 + lag_seconds)):
        yaw = np.radians(80 / (1 + np.exp(-(poses.times - at) / 0.05)))
        for side, sign in (("left", 1), ("right", -1)):
            line = 0.15 * sign * np.stack([np.cos(yaw), np.zeros(len(yaw)), np.sin(yaw)], axis=1)
            poses.world[:, INDEX[f"{side}_{part}"]] = line
    return poses


def turned(poses: Poses, degrees: float) -> Poses:
    """The motion with the camera off square: lengths along the image are shorter by the cosine."""
    image, world = poses.image.copy(), poses.world.copy()
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    image[..., 0] = poses.width / 2 + (image[..., 0] - poses.width / 2) * cosine
    world[..., 0], world[..., 2] = (
        poses.world[..., 0] * cosine - poses.world[..., 2] * sine,
        poses.world[..., 0] * sine + poses.world[..., 2] * cosine,
    )
    return replace(poses, image=image, world=world)


def noisy(poses: Poses, share_of_body: float = 0.02, seed: int = 0) -> Poses:
    """The motion with an independent normal error in every coordinate of every frame."""
    noise = np.random.default_rng(seed).normal(0, share_of_body * BODY, poses.image.shape)
    return replace(poses, image=poses.image + noise)


def posed(poses: Poses, seed: int = 0) -> Poses:
    """The motion as the pose model sees it: each joint off by a constant, a slow and a quick error."""
    random = np.random.default_rng(seed)
    knots = np.arange(poses.times[0], poses.times[-1] + 2 * SLOW_SECONDS, SLOW_SECONDS)
    image = poses.image.copy()
    for part, (constant, slow, quick) in POSE_ERRORS.items():
        for name in (each for each in LANDMARKS if each.endswith(part)):
            for axis in (0, 1):
                drift = PchipInterpolator(knots, random.normal(0, slow, len(knots)))(poses.times)
                jitter = random.normal(0, quick, len(poses.times))
                image[:, INDEX[name], axis] += BODY * (random.normal(0, constant) + drift + jitter)
    return replace(poses, image=image)


def with_still_hands(poses: Poses) -> Poses:
    """The motion with wrists that hang beside the hips and do not move against them."""
    image = poses.image.copy()
    hips = (poses.point("left_hip") + poses.point("right_hip")) / 2
    for side in ("left", "right"):
        image[:, INDEX[f"{side}_wrist"]] = hips - (0, TORSO - ARM)
    return replace(poses, image=image)


def holed(poses: Poses, share: float = 0.1, seed: int = 0) -> Poses:
    """The motion with one frame in ten, at random, without a detection."""
    image = poses.image.copy()
    image[np.random.default_rng(seed).random(len(poses)) < share] = np.nan
    return replace(poses, image=image)


def mirrored(poses: Poses) -> Poses:
    """The motion in a mirror: x reversed, left and right labels swapped."""
    swap = [INDEX[_other(name)] for name in LANDMARKS]
    image = poses.image[:, swap].copy()
    image[..., 0] = poses.width - image[..., 0]
    others = {name: getattr(poses, name)[:, swap] for name in ("world", "visibility", "presence")}
    return replace(poses, image=image, **others)


def between(poses: Poses, start: float, end: float) -> Poses:
    """The frames of a stretch of time."""
    keep = (poses.times >= start) & (poses.times <= end)
    kept: dict[str, Any] = {name: getattr(poses, name)[keep] for name in PER_FRAME}
    return replace(poses, **kept)


def legs_swapped(poses: Poses, start: float, end: float) -> Poses:
    """The motion with swapped leg labels for a stretch, as MediaPipe swaps them around a release."""
    return _swapped(poses, start, end, ("hip", "knee", "ankle", "heel", "foot_index"))


def arms_swapped(poses: Poses, start: float, end: float) -> Poses:
    """The motion with swapped arm labels for a stretch, as MediaPipe swaps them at the top of quick deliveries."""
    return _swapped(poses, start, end, ("shoulder", "elbow", "wrist", "pinky", "index", "thumb"))


def _swapped(poses: Poses, start: float, end: float, parts: tuple[str, ...]) -> Poses:
    image = poses.image.copy()
    rows = (poses.times >= start) & (poses.times <= end)
    for part in parts:
        left, right = INDEX[f"left_{part}"], INDEX[f"right_{part}"]
        image[rows, left], image[rows, right] = poses.image[rows, right], poses.image[rows, left]
    return replace(poses, image=image)


def hidden(poses: Poses, *parts: str) -> Poses:
    """The motion with parts ("ankle", "foot") below the image edge, where MediaPipe extrapolates them."""
    image, visibility = poses.image.copy(), poses.visibility.copy()
    for name in LANDMARKS:
        if any(part in name for part in parts):
            image[:, INDEX[name], 1] += HEIGHT
            visibility[:, INDEX[name]] = 0.3
    return replace(poses, image=image, visibility=visibility)


def _figure() -> Floats:
    """(33, 2) pixels of the standing figure."""
    image = np.empty((33, 2))
    foot = _below(HIP, 2 * THIGH)
    places = {"shoulder": SHOULDER, "elbow": _below(SHOULDER, ARM / 2), "hip": HIP, "knee": _below(HIP, THIGH)}
    places |= {"ankle": foot, "heel": foot, "foot": foot}
    for name in LANDMARKS:
        hand = any(part in name for part in ("wrist", "pinky", "index", "thumb")) and "foot" not in name
        at = _below(SHOULDER, ARM) if hand else next((at for part, at in places.items() if part in name), HEAD)
        image[INDEX[name]] = at
    return image


def _below(point: Floats, pixels: float) -> Floats:
    return np.array([point[0], point[1] + pixels])


def _step(poses: Poses, side: str, landing: float, length: float) -> None:
    """Moves a foot from `length` px behind at constant speed in 0.3 s; it stops at `landing`."""
    short = length * np.clip((landing - poses.times) / 0.3, 0, 1)
    for part in ("ankle", "heel", "foot_index"):
        poses.image[:, INDEX[f"{side}_{part}"], 0] += 60 - short


def _plant(poses: Poses, side: str, landing: float, x: float, drag: Floats | float = 0.0) -> None:
    """Moves a foot from the body's path to a place within 0.15 s; it stays there, apart from its drag."""
    stands = np.clip((poses.times - (landing - 0.15)) / 0.15, 0, 1)
    for part in ("ankle", "heel", "foot_index"):
        foot = poses.image[:, INDEX[f"{side}_{part}"]]
        foot[:, 0] = (1 - stands) * foot[:, 0] + stands * (x + drag)


def _front_knee(poses: Poses, side: str, degrees: float | Floats) -> None:
    """Moves the knee so that thigh and shank make this angle, for any position of hip and ankle."""
    hip, ankle = poses.point(f"{side}_hip"), poses.point(f"{side}_ankle")
    along = ankle - hip
    reach = np.linalg.norm(along, axis=1, keepdims=True)
    across = np.stack([along[:, 1], -along[:, 0]], axis=1) / reach
    out = reach[:, 0] / 2 / np.tan(np.radians(np.asarray(degrees) / 2))
    poses.image[:, INDEX[f"{side}_knee"]] = (hip + ankle) / 2 + across * out[:, None]


def point_arm(poses: Poses, side: str, angle: Floats, elbow_deg: float | Floats = 180.0) -> None:
    """Turns an arm to an angle in radians from straight up, positive to the right, with the elbow at `elbow_deg`."""
    way = np.stack([np.sin(angle), -np.cos(angle)], axis=1)
    across = np.stack([-way[:, 1], way[:, 0]], axis=1)
    half = np.radians(np.broadcast_to(elbow_deg, angle.shape) / 2)[:, None]
    shoulder = poses.point(f"{side}_shoulder")
    reach = ARM * np.sin(half)
    poses.image[:, INDEX[f"{side}_elbow"]] = shoulder + reach / 2 * way + ARM / 2 * np.cos(half) * across
    for part in ("wrist", "pinky", "index", "thumb"):
        poses.image[:, INDEX[f"{side}_{part}"]] = shoulder + reach * way


def _other(name: str) -> str:
    if "left" in name:
        return name.replace("left", "right")
    return name.replace("right", "left")


@dataclass(frozen=True)
class KnownAnswer:
    """A motion and the exact value that one number has in it."""

    motion: Callable[[], Poses]
    discipline: str
    answer: float

    def poses(self) -> Poses:
        return self.motion()


def _opening_bowler() -> Poses:
    return bowler(30, knee_deg=(150, 170), elbow_deg=(150, 170))


# A body of `batter_along_pitch`: its left side, with the front foot still 140 px behind.
_LEAN = np.radians(20)
_BODY = np.hypot(TORSO * np.sin(_LEAN) + 20, TORSO * np.cos(_LEAN)) + np.hypot(2 * THIGH, 200 - STEP)
# The hands have left their top after a tenth of their way, with the arms 56.6 degrees from straight down.
_LEFT_TOP_DEG = 56.6
ALONG_PITCH = {
    # The middle of the feet is half a step to the right; a third of each foot is its toe.
    "head_over_feet": (TORSO * np.sin(_LEAN) + STEP / 2 - TOES / 3) / _BODY,
    "head_height": (2 * THIGH + 40 + TORSO * np.cos(_LEAN)) / _BODY * 0.779,
    "base_width": STEP / _BODY * 0.779,
    "stroke_trunk_lean": 20.0,
    "hands_path_width": ARM * np.sin(np.radians(_LEFT_TOP_DEG)) / _BODY,
    "downswing_time": 0.04 * np.log(120 / (60 - _LEFT_TOP_DEG) - 1),
}

# Every number of `services/analyzer/biomechanics/registry.py`; NaN where no film gives it.
KNOWN_ANSWERS = {
    "head_stability_score": KnownAnswer(lambda: sway(30, 0.1), "fielding", 0.1 / np.sqrt(2)),
    "balance_drift_score": KnownAnswer(lambda: sway(30, 0.1), "fielding", 0.1 / np.sqrt(2)),
    "front_knee_brace_score": KnownAnswer(lambda: bowler(30), "bowling", 160),
    "hip_shoulder_separation_timing": KnownAnswer(lambda: turning(30, 0.12), "batting", np.nan),
    "elbow_drop_score": KnownAnswer(lambda: bowler(30), "bowling", ARM / 2 / BODY),
    "stride_length": KnownAnswer(lambda: bowler(30), "bowling", STRIDE / STATURE),
    "run_up_speed_trend": KnownAnswer(lambda: bowler(30), "bowling", 1.0),
    # The wrist over the sole, with the arm 30 degrees past upright at release.
    "release_height": KnownAnswer(lambda: bowler(30), "bowling", (260 + ARM * np.cos(np.radians(30))) / STATURE),
    "trunk_lateral_flexion_at_release": KnownAnswer(lambda: from_behind(delivery(30), 20), "bowling", 20),
    "front_knee_at_contact": KnownAnswer(_opening_bowler, "bowling", 150),
    "front_knee_at_release": KnownAnswer(_opening_bowler, "bowling", 170),
    "front_knee_change": KnownAnswer(_opening_bowler, "bowling", 20),
    "bowling_elbow_extension": KnownAnswer(_opening_bowler, "bowling", 20),
    **{name: KnownAnswer(lambda: batter_along_pitch(30), "batting", answer) for name, answer in ALONG_PITCH.items()},
}
