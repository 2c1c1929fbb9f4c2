"""Measures the accuracy of every number on motions with a known answer, without a pose model."""

import functools
from collections.abc import Callable, Iterator

import numpy as np

from bench.accuracy_claims import Claim, absences, given, moment, number, value_of, worst, wrong
from services.analyzer.biomechanics.events import find_actions
from services.analyzer.biomechanics.foot_contact import Missing
from services.analyzer.biomechanics.kinematics import hand_speeds
from services.analyzer.biomechanics.measurement import measure
from services.analyzer.biomechanics.registry import (
    BALANCE_DRIFT,
    BASE_WIDTH,
    BOWLING_ELBOW_EXTENSION,
    DOWNSWING_TIME,
    ELBOW_DROP,
    FRONT_KNEE_AT_CONTACT,
    FRONT_KNEE_AT_RELEASE,
    FRONT_KNEE_BRACE,
    FRONT_KNEE_CHANGE,
    HANDS_PATH_WIDTH,
    HEAD_HEIGHT,
    HEAD_OVER_FEET,
    HEAD_STABILITY,
    HIP_SHOULDER_TIMING,
    RELEASE_HEIGHT,
    RUN_UP_SPEED_TREND,
    STRIDE_LENGTH,
    STROKE_TRUNK_LEAN,
    TRUNK_LATERAL_FLEXION,
)
from services.analyzer.pose.landmarks import Poses
from testing.data import motions

RATES = (10, 15, 25, 30, 60)


def on_motions() -> Iterator[Claim]:
    """Motions whose exact answer is known, at every rate, without a pose model."""
    ways: dict[str, Callable[[Poses], Poses]] = {
        "as it is, mirrored, one frame in ten lost": lambda poses: motions.holed(poses),
        "30 degrees off square": lambda poses: motions.turned(poses, 30),
        "noise of 2 % body": motions.noisy,
    }
    for words, way in ways.items():
        cosine = np.cos(np.radians(30)) if "off" in words else 1.0
        noisy = "noise" in words
        variants = [way, motions.mirrored, lambda poses: poses] if "mirrored" in words else [way]
        # A delivery that is lost at its top is no delivery; joints in noise have no number.
        may_be_absent = noisy or "lost" in words
        # As fielding, where the whole clip is measured without an action. Hands in noise could be one.
        swaying = [motions.sway(fps, 0.1) for fps in RATES]
        sway = [measure(motions.with_still_hands(f(poses)), [], "fielding") for poses in swaying for f in variants]
        for spec in (HEAD_STABILITY, BALANCE_DRIFT):
            off = [100 * (number(m, spec) / (cosine * 0.1 / np.sqrt(2)) - 1) for m in sway]
            yield Claim(f"motion, {words}: sway, {spec.name}", worst(off), 10 if noisy else 5, "%")
        fast = [fps for fps in RATES if fps >= (25 if "mirrored" in words else 15)]
        bowlers = [
            measure(f(motions.bowler(fps, knee_deg=(160, 160), elbow_deg=(150, 170))), [], "bowling")
            for fps in fast
            for f in variants
        ]
        wrist = 160 + 100 + 90 * np.cos(np.radians(30)) * np.sin(np.radians(85))
        answers = (
            (ELBOW_DROP, 45 / motions.BODY, 5, 10),
            (STRIDE_LENGTH, cosine * motions.STRIDE / motions.STATURE, 5, 15),
            (RELEASE_HEIGHT, wrist / motions.STATURE, 5, 10),
        )
        for spec, answer, bound, bound_in_noise in answers:
            off = [100 * (number(m, spec) / answer - 1) for m in bowlers]
            most = bound_in_noise if noisy else bound
            yield Claim(f"motion, {words}: {spec.name}", worst(given(off, may_be_absent)), most, "%", absences(off))
        trend = [100 * (number(m, RUN_UP_SPEED_TREND) - 1) for m in bowlers]
        most = 50 if noisy else 10
        yield Claim(
            f"motion, {words}: {RUN_UP_SPEED_TREND.name}",
            worst(given(trend, may_be_absent)),
            most,
            "%",
            absences(trend),
        )
        if not cosine < 1:
            knees = [number(m, FRONT_KNEE_BRACE) - 160 for m in bowlers]
            most = 15 if noisy else 3
            yield Claim(f"motion, {words}: front knee, smallest", worst(given(knees)), most, "deg", absences(knees))
        release = [1000 * (moment(m, "release") - 8.63) for m in bowlers]
        yield Claim(
            f"motion, {words}: release",
            worst(given(release, may_be_absent)),
            15 if noisy else 3,
            "ms",
            absences(release),
        )
        contact = [1000 * (moment(m, "front_foot_contact") - 8.45) for m in bowlers]
        yield Claim(f"motion, {words}: contact", worst(given(contact, may_be_absent)), 34, "ms", absences(contact))
    still = [
        number(measure(f(fps), [], "fielding"), HEAD_STABILITY) for f in (motions.still, motions.jump) for fps in RATES
    ]
    yield Claim(
        "motion: standing still, and a square jump of 0.3 body, move the head by", worst(still), 0.001, "bodies"
    )
    leans = [
        number(
            measure(f(motions.from_behind(motions.delivery(fps), 20)), [], "bowling"),
            TRUNK_LATERAL_FLEXION,
        )
        for fps in RATES
        for f in (motions.mirrored, lambda poses: poses)
    ]
    yield Claim(
        f"motion from behind: {TRUNK_LATERAL_FLEXION.name}, 20 degrees", worst([x - 20 for x in leans]), 2, "deg"
    )
    strokes = [
        measure(f(motions.batter_along_pitch(fps)), [], "batting")
        for fps in RATES[1:]
        for f in (motions.mirrored, lambda poses: poses)
    ]
    for spec in (HEAD_OVER_FEET, HEAD_HEIGHT, BASE_WIDTH, STROKE_TRUNK_LEAN, HANDS_PATH_WIDTH, DOWNSWING_TIME):
        off = [100 * (number(m, spec) / motions.ALONG_PITCH[spec.name] - 1) for m in strokes]
        yield Claim(f"motion along the pitch, mirrored or not: {spec.name}", worst(off), 5, "%")
    bent = [motions.bowler(fps, elbow_deg=(150, 170)) for fps in (25, 30, 60)]
    extensions = [number(measure(poses, [], "bowling"), BOWLING_ELBOW_EXTENSION) - 20 for poses in bent]
    yield Claim(
        f"motion: {BOWLING_ELBOW_EXTENSION.name} of 20 degrees, 25 to 60 frames a second", worst(extensions), 2, "deg"
    )
    for degrees in ((150, 170), (165, 145)):
        opened = [measure(motions.bowler(fps, knee_deg=degrees), [], "bowling") for fps in RATES[1:]]
        off = [100 * (number(m, FRONT_KNEE_CHANGE) / (degrees[1] - degrees[0]) - 1) for m in opened]
        ends = [
            number(m, spec) - exact
            for m in opened
            for spec, exact in zip((FRONT_KNEE_AT_CONTACT, FRONT_KNEE_AT_RELEASE), degrees, strict=True)
        ]
        words = "opens" if degrees[1] > degrees[0] else "gives way"
        yield Claim(f"motion, a knee that {words} by 20 degrees: {FRONT_KNEE_CHANGE.name}", worst(off), 10, "%")
        yield Claim(f"motion, a knee that {words} by 20 degrees: at contact and release", worst(ends), 2, "deg")
    swing = 2 * np.pi * 0.8 * np.radians(40) * motions.ARM / motions.TORSO
    for words, way, bound in (("", motions.mirrored, 5), (", one frame in ten lost", motions.holed, 15)):
        arms = [f(motions.pendulum(fps)) for fps in RATES for f in (way, lambda poses: poses)]
        hands = [100 * (hand_speeds(poses)[1].max() / swing - 1) for poses in arms]
        yield Claim(f"motion, arms that swing as a pendulum{words}: fastest hand", worst(hands), bound, "%")
    walks = [
        isinstance(find_actions(motions.turned(motions.walker(fps, strides_hz=hz, swing_deg=swing), turn), d), Missing)
        for fps in RATES
        for hz, swing in ((0.8, 25), (1.0, 35), (1.4, 50))
        for turn in (0, 30)
        for d in ("batting", "bowling", "fielding", "wicketkeeping")
    ]
    yield Claim("motion, walkers and runners: actions", wrong(walks), 0, f"of {len(walks)}")
    slow = [measure(motions.bowler(5), [], "bowling"), measure(motions.stroke(5), [], "batting")]
    absent = [metric.value is None for m in slow for metric in m.everything.values()]
    yield Claim(
        "motion at 5 frames a second: numbers given",
        wrong(absent),
        0,
        f"of {len(absent)}",
        "all absent: too few frames",
    )
    turns = [measure(motions.turning(30, lag), [], "batting") for lag in (0.04, 0.12, 0.2)]
    lags = [turn.metrics[HIP_SHOULDER_TIMING.name].value is None for turn in turns]
    yield Claim("motion, turns with a known lag: timings given", wrong(lags), 0, "of 3", "absent with its reason")


def on_held_out_motions() -> Iterator[Claim]:
    """Motions, noise and seeds that no threshold was chosen on, to check the stated errors."""
    wrist = 160 + 100 + 90 * np.cos(np.radians(30)) * np.sin(np.radians(75))
    for share in (0.005, 0.01, 0.02):
        ratios: dict[str, list[float]] = {}
        for seed in range(100, 106):
            fps = (24, 30, 50)[seed % 3]
            noisy = functools.partial(motions.noisy, share_of_body=share, seed=seed)
            bowler = motions.bowler(
                fps, upright=8.55, landing=8.35, knee_deg=(148, 148), elbow_deg=(135, 150), run_up=(450, 250)
            )
            answers = {
                FRONT_KNEE_BRACE.name: 148,
                FRONT_KNEE_AT_CONTACT.name: 148,
                FRONT_KNEE_AT_RELEASE.name: 148,
                FRONT_KNEE_CHANGE.name: 0,
                BOWLING_ELBOW_EXTENSION.name: 15,
                ELBOW_DROP.name: 45 / motions.BODY,
                STRIDE_LENGTH.name: motions.STRIDE / motions.STATURE,
                RUN_UP_SPEED_TREND.name: 250 / (450 - 250 / 4),
                RELEASE_HEIGHT.name: wrist / motions.STATURE,
            }
            stroke = {
                FRONT_KNEE_BRACE.name: 127,
                FRONT_KNEE_AT_CONTACT.name: 127,
                FRONT_KNEE_AT_RELEASE.name: 127,
                FRONT_KNEE_CHANGE.name: 0,
            }
            swing = {HEAD_STABILITY.name: 0.06 / np.sqrt(2), BALANCE_DRIFT.name: 0.06 / np.sqrt(2)}
            for poses, discipline, known in (
                (bowler, "bowling", answers),
                (motions.stroke(fps, landing=1.3, hands=1.6, knee_deg=127), "batting", stroke),
                (motions.sway(fps, 0.06, hz=0.8, seconds=0.6 + 3 / 0.8), "fielding", swing),
            ):
                shaken = noisy(poses) if discipline != "fielding" else motions.with_still_hands(noisy(poses))
                found = measure(shaken, [], discipline).everything
                for name, answer in known.items():
                    error = found[name].scatter  # no pose model has a bias here
                    value = value_of(found[name])
                    ratios.setdefault(name, []).append(abs(value - answer) / (error or np.nan))
        for name, each in ratios.items():
            words = f"held out: motions in noise of {100 * share:g} % body: {name}, in stated errors"
            yield Claim(words, worst(given(each)), 2.5, "times", absences(each))
