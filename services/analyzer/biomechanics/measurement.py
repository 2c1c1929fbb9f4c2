"""Measures every number of the registry in one video: a value with its error, or the reason why there is none.

    whole clip (first pass) ──▶ torso and body lengths, detection rate
    close-ups (second pass, every frame) ──▶ one `ActionWindow` an action ──▶ one `Reading` a number and action
                                                                       └──▶ median over actions ──▶ `Metric`

Lengths are in bodies, angles in degrees of the image plane, windows in seconds: no number depends on camera distance or
frame rate. The sign of x has no effect, so a mirrored clip measures the same.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median, stdev

from services.analyzer.biomechanics.action_window import ActionWindow, find_windows, in_replicate, with_moved_moments
from services.analyzer.biomechanics.actions.evidence import CLEAR_EVIDENCE
from services.analyzer.biomechanics.actions.shots import split_shots
from services.analyzer.biomechanics.actions.sight import SIGHT
from services.analyzer.biomechanics.actions.tempo import may_be_at_half_speed, may_be_faster, slowed_by, sped_up_by
from services.analyzer.biomechanics.events import SIGNED, Action, Event, EventName, GivenEvent, rate_confidence
from services.analyzer.biomechanics.filtering import tidy
from services.analyzer.biomechanics.foot_contact import LOWEST_RATE_FPS, Landing, Missing
from services.analyzer.biomechanics.kinematics import Side, feet_in_view, frame_rate
from services.analyzer.biomechanics.labels import SHORT_EVENT_CAPTIONS, action_noun
from services.analyzer.biomechanics.landmark_noise import noise_error, replicates
from services.analyzer.biomechanics.metrics.along_pitch import NO_STROKE
from services.analyzer.biomechanics.metrics.unscored import NO_DELIVERY
from services.analyzer.biomechanics.model import (
    Evidence,
    Measurements,
    Metric,
    MetricSpec,
    Obstacle,
    Reading,
    Reliability,
    Repetition,
    Trace,
)
from services.analyzer.biomechanics.registry import MEASURES, METRICS, SPECS, guidance
from services.analyzer.knowledge.loader import Scale, shared
from services.analyzer.pose.landmarks import Poses
from services.naming import Discipline
from services.rules.options import Correction

NO_PLAYER = "no player in view"
# What of a film was measured, in the words of a reason.
WHOLE_FILM = "this film"
FILM_THE_PLAYER = "Film the player from the side, whole body in the picture, about half its height."
FILM_FASTER = "Film with 30 frames a second or more."
NAME_THE_RATE = f"Say how many frames a second the camera recorded: {Correction.SLOW_MOTION.place}."
FILM_AT_NORMAL_SPEED = f"Film at normal speed. Or is all of the film slowed alike? {NAME_THE_RATE}"

# Standard error of a median of n over that of a mean, for a normal distribution.
MEDIAN_PER_MEAN_ERROR = 1.2533
FEWEST_FRAMES = 5
# The most confidence of a number that is not judged, whose action no sign proves, or whose error is too large for its
# use.
UNJUDGED_CONFIDENCE = 0.4
HIGH_RELIABILITY_PERCENT = 80
# A number is absent if its error is too large, or under half of the replicates give a value.
MOST_TIMES_TYPICAL, LEAST_SHARE_OF_REPLICATES = 2.5, 0.5
UNSTEADY = "too uncertain in this film: a frame more or less, or the joints' jitter, moves it far"


@dataclass(frozen=True)
class _MeasuredWindow:
    """One action and what was read off it, by name of the number."""

    window: ActionWindow
    readings: dict[str, Reading | Missing]

    def found(self) -> dict[str, Reading]:
        return {name: reading for name, reading in self.readings.items() if isinstance(reading, Reading)}


def measure(
    whole: Poses,
    closeups: list[Poses],
    discipline: str,
    given: Sequence[GivenEvent] = (),
    cuts: tuple[float, ...] = (),
    who: Obstacle | None = None,
    *,
    known_clock: bool = False,
    extent: str = WHOLE_FILM,
) -> Measurements:
    """Numbers, events and sides of one video. whole: first pass; closeups: second pass, one series an action, or none.

    given: moments that the client states. cuts: seconds of the first frame after each; each shot is measured by itself.
    who: set if it is unknown who of several people is the player. known_clock: whether times are known to be real.
    extent: what of the film the poses are of, in the words of a reason.

    Raises GuidanceError for an unknown discipline.
    """
    scales = guidance(discipline).scales
    clip = tidy(whole)
    rate = 100.0 * float(whole.detected.mean()) if len(whole) else 0.0
    if clip.detected.sum() < FEWEST_FRAMES:
        return _without_athlete(whole, rate, extent)
    cleaned = [tidy(closeup) for closeup in closeups]
    shots = [shot for shot in split_shots(clip, cuts) if shot.detected.sum() >= FEWEST_FRAMES] or [clip]
    windows = find_windows(shots, cleaned, discipline, given)
    obstacle = (
        _too_slow(max(shots, key=len))
        or who
        or (None if known_clock else _find_fast_motion(cleaned, discipline))
        or _find_hidden(windows, discipline, extent)
        or (None if known_clock else _find_slow_motion(shots, cleaned, discipline))
        or _find_doubt(windows, discipline, extent)
    )
    doubt = None if known_clock or obstacle else _find_doubtful_tempo(cleaned, discipline)
    windows = [window for window in windows if _is_clear(window.action)] or windows
    measured = [_MeasuredWindow(window, _read_all(window, obstacle)) for window in windows]
    judged = obstacle is None and doubt is None and rate >= shared().reliable_from_detection_rate_percent
    actions = [each for each in measured if isinstance(each.window.action, Action)]
    proven = discipline in SIGNED or any(_is_given(each.window.action) for each in actions)
    most_confidence = 1.0 if judged and proven else UNJUDGED_CONFIDENCE
    return Measurements(
        metrics={spec.name: _combine(spec, measured, scales.get(spec.name), most_confidence) for spec in METRICS},
        events=_events((each.window for each in actions), UNJUDGED_CONFIDENCE if doubt else 1.0),
        front_leg=_most_common(each.window.front_leg for each in actions),
        throwing_arm=_most_common(each.window.bowling_arm for each in actions),
        detection_rate_percent=round(rate, 1),
        reliability=_reliability(100.0 * float(clip.detected.mean()), bool(actions and closeups)),
        actions=len(actions),
        notes=(*_notes(windows, cuts, doubt), *_given_notes(windows, given)),
        measures={spec.name: _combine(spec, measured, None, most_confidence) for spec in MEASURES},
        repetitions=tuple(_repetition(each) for each in actions),
        traces=tuple(_trace(each) for each in measured),
        obstacle=obstacle,
        doubt=doubt,
        end_on=_is_end_on(windows),
    )


def _is_end_on(windows: list[ActionWindow]) -> bool | None:
    """Whether the camera looks along the pitch in every measured shot; None if shots differ or do not show it."""
    views = {window.end_on for window in windows}
    return views.pop() if len(views) == 1 else None


def _without_athlete(whole: Poses, rate: float, extent: str) -> Measurements:
    """No number, since too few frames have a detection."""
    absent = {name: Metric.absent(spec, spec.absent_reason or NO_PLAYER) for name, spec in SPECS.items()}
    return Measurements(
        metrics={spec.name: absent[spec.name] for spec in METRICS},
        events=[],
        front_leg=None,
        throwing_arm=None,
        detection_rate_percent=round(rate, 1),
        reliability=Reliability.LOW,
        actions=0,
        measures={spec.name: absent[spec.name] for spec in MEASURES},
        obstacle=_no_player(whole, extent),
    )


def _no_player(whole: Poses, extent: str) -> Obstacle:
    """The obstacle of a video in which the player was hardly detected. whole: the first pass."""
    if too_slow := _too_slow(whole):
        return too_slow
    seen = int(whole.detected.sum())
    reason = f"the player was found in {seen} of {len(whole)} frames" if seen else f"no player was found in {extent}"
    return Obstacle(reason, FILM_THE_PLAYER, unclear=extent != WHOLE_FILM)


def _find_fast_motion(closeups: list[Poses], discipline: str) -> Obstacle | None:
    """The obstacle of a film that looks sped up; None for any other."""
    if (factor := sped_up_by(closeups, discipline)) == 1:
        return None
    sped_up = f"the film, or a part of it, looks sped up about {factor} times"
    return Obstacle(f"{sped_up}, so times and speeds in it are not the player's", FILM_AT_NORMAL_SPEED)


def _find_slow_motion(shots: list[Poses], closeups: list[Poses], discipline: str) -> Obstacle | None:
    """The obstacle of a film that looks slowed, or may be; None for one in real time."""
    if (factor := slowed_by(shots, closeups, discipline)) > 1:
        slowed = f"the film, or a part of it, looks slowed {factor} times or more"
        return Obstacle(f"{slowed}, so times and speeds in it are not the player's", FILM_AT_NORMAL_SPEED)
    if discipline == Discipline.BOWLING and may_be_at_half_speed(closeups):
        return Obstacle("the delivery is slow, or the film is at half speed, and it does not show which", NAME_THE_RATE)
    return None


def _find_doubtful_tempo(closeups: list[Poses], discipline: str) -> Obstacle | None:
    """Why no number is sure: an action that is as quick as few are. None for any other."""
    if not may_be_faster(closeups, discipline):
        return None
    noun = action_noun(discipline).singular
    return Obstacle(f"the {noun} is quick, or the film is sped up, and it does not show which", NAME_THE_RATE)


def _find_hidden(windows: list[ActionWindow], discipline: str, extent: str) -> Obstacle | None:
    """Why no action is judged where the film hides or cuts one: what is left of it may look slowed."""
    hidden = any(isinstance(window.action, Action) and window.action.weakest_sign in SIGHT for window in windows)
    return _find_doubt(windows, discipline, extent) if hidden else None


def _find_doubt(windows: list[ActionWindow], discipline: str, extent: str) -> Obstacle | None:
    """Why the actions of these windows are not judged: none was found, or a doubtful one; None if one is clear."""
    if any(_is_clear(window.action) for window in windows):
        return None
    noun, action = action_noun(discipline).singular, windows[0].action
    remedy = f"Film one whole {noun} from the side, in daylight, from before it begins until after it ends."
    if isinstance(action, Missing):
        return Obstacle(f"no {noun} was found in {extent}: {action.reason}", remedy, unclear=True)
    return Obstacle(
        f"the {noun} in {extent} is doubtful: it is not clear that {action.weakest_sign}", remedy, unclear=True
    )


def _too_slow(poses: Poses) -> Obstacle | None:
    rate = frame_rate(poses)
    if len(poses) < 2 or rate >= LOWEST_RATE_FPS:
        return None
    frames = "1 frame a second is" if round(rate) == 1 else f"{rate:.0f} frames a second are"
    return Obstacle(f"{frames} too few", FILM_FASTER)


def _is_clear(action: Action | Missing) -> bool:
    """Whether an action was found that no sign leaves in doubt."""
    return isinstance(action, Action) and action.evidence >= CLEAR_EVIDENCE


def _is_given(action: Action | Missing) -> bool:
    return isinstance(action, Action) and action.given


def _read_all(window: ActionWindow, obstacle: Obstacle | None) -> dict[str, Reading | Missing]:
    """Each number of one action, with the errors that noise and moments add; without an action the obstacle is why."""
    if not window.is_measured and obstacle:
        return {name: Missing(spec.absent_reason or obstacle.reason) for name, spec in SPECS.items()}
    copies = [in_replicate(window, poses) for poses in replicates(window.poses)]
    moved = with_moved_moments(window)
    return {
        name: _with_film_errors(
            _read(spec, window),
            [_read(spec, copy) for copy in copies],
            [(_read(spec, earlier), _read(spec, later)) for earlier, later in moved],
        )
        for name, spec in SPECS.items()
    }


def _read(spec: MetricSpec, window: ActionWindow) -> Reading | Missing:
    if window.discipline in spec.disciplines:
        return spec.read(window)
    return NO_DELIVERY if Discipline.BOWLING in spec.disciplines else NO_STROKE


def _with_film_errors(
    reading: Reading | Missing,
    copies: list[Reading | Missing],
    moved: list[tuple[Reading | Missing, Reading | Missing]],
) -> Reading | Missing:
    """The reading with its total error; Missing if that is too large for the number to be useful.

    copies: the readings of the replicates; empty if the landmark noise is negligible. moved: for each moment, the
    readings with it earlier and later.
    """
    if isinstance(reading, Missing):
        return reading
    values = [copy.value for copy in copies if isinstance(copy, Reading)]
    moments = [_moment_error(reading.value, pair) for pair in moved]
    error = math.hypot(reading.error, reading.film_error, noise_error(reading.value, values), *moments)
    most = MOST_TIMES_TYPICAL * reading.error if reading.most_error is None else reading.most_error
    if len(values) < LEAST_SHARE_OF_REPLICATES * len(copies) or error > most:
        return Missing(UNSTEADY)
    return replace(reading, error=error)


def _moment_error(value: float, pair: tuple[Reading | Missing, Reading | Missing]) -> float:
    """Standard deviation of a value by the error of one of its moments.

    The root mean square of its changes as the moment is one standard deviation earlier and later: these two points have
    the mean and the variance of the moment's error (Julier and Uhlmann 1997).
    """
    changes = [(reading.value - value) ** 2 for reading in pair if isinstance(reading, Reading)]
    return math.sqrt(fmean(changes)) if changes else 0.0


def _combine(spec: MetricSpec, measured: list[_MeasuredWindow], scale: Scale | None, most_confidence: float) -> Metric:
    """The median over actions. With several actions, the evidence is each action's worst moment and value."""
    readings = [each.readings[spec.name] for each in measured]
    found = [reading for reading in readings if isinstance(reading, Reading)]
    if not found:
        return Metric.absent(spec, next(reading.reason for reading in readings if isinstance(reading, Missing)))
    values = [reading.value for reading in found]
    value, error, actions_error = median(values), median(reading.error for reading in found), 0.0
    if error > spec.useful_error:
        most_confidence = min(most_confidence, UNJUDGED_CONFIDENCE)
    if len(found) == 1:
        evidence = found[0].moments
    else:
        evidence = [Evidence(reading.moments[0].time_seconds, reading.value) for reading in found if reading.moments]
        if scale:
            evidence.sort(key=lambda moment: scale.score(moment.value))
        actions_error = MEDIAN_PER_MEAN_ERROR * stdev(values) / math.sqrt(len(values))
    return Metric(
        spec,
        value=round(value, 4),
        score=round(scale.score(value), 3) if scale else None,
        confidence=round(min(median(reading.confidence for reading in found), most_confidence), 2),
        frames_used=sum(reading.frames for reading in found),
        evidence=tuple(Evidence(round(time, 3), round(value, 4)) for time, value in evidence),
        random_error=round(error, 4),
        actions_error=round(actions_error, 4),
    )


def _repetition(measured: _MeasuredWindow) -> Repetition:
    window, found = measured.window, measured.found()
    assert isinstance(window.action, Action)  # noqa: S101 - callers pass windows with an action
    return Repetition(
        window.action.name,
        window.action.time_seconds,
        window.action.side,
        window.landing.time_seconds if isinstance(window.landing, Landing) else None,
        window.front_leg,
        {name: round(found[name].value, 4) if name in found else None for name in SPECS},
        frozenset(event.name for event in _events([window]) if event.given),
    )


def _trace(measured: _MeasuredWindow) -> Trace:
    found = measured.found()
    return Trace(
        measured.window.start,
        measured.window.end,
        curves={name: reading.curve for name, reading in found.items() if reading.curve is not None},
        joints={name: reading.joints for name, reading in found.items()},
    )


def _events(windows: Iterable[ActionWindow], most_confidence: float = 1.0) -> list[Event]:
    """The contact and the action of each window, in order of time. most_confidence: of those that are not given."""
    events = []
    for window in windows:
        if isinstance(window.landing, Landing):
            landing = window.landing
            confidence = 1.0 if landing.given else _contact_confidence(window)
            contact, leg = EventName.FRONT_FOOT_CONTACT, window.front_leg
            events.append(Event(contact, landing.time_seconds, confidence, leg, landing.given))
        if isinstance(window.action, Action):
            action = window.action
            events.append(Event(action.name, action.time_seconds, action.confidence, action.side, action.given))
    events = [e if e.given else replace(e, confidence=min(e.confidence, most_confidence)) for e in events]
    return sorted(events, key=lambda event: event.time_seconds)


def _contact_confidence(window: ActionWindow) -> float:
    """0..1: of a contact that was found; one of a doubtful action is doubtful."""
    confidence = 0.9 * rate_confidence(window.poses) * window.landing_evidence
    return confidence if _is_clear(window.action) else min(confidence, UNJUDGED_CONFIDENCE)


def _most_common(sides: Iterable[Side | None]) -> Side | None:
    known = Counter(side for side in sides if side)
    return known.most_common(1)[0][0] if known else None


def _reliability(usable_percent: float, has_close_ups: bool) -> Reliability:
    if usable_percent < shared().reliable_from_detection_rate_percent:
        return Reliability.LOW
    return Reliability.HIGH if usable_percent >= HIGH_RELIABILITY_PERCENT and has_close_ups else Reliability.MEDIUM


def _given_notes(windows: list[ActionWindow], given: Sequence[GivenEvent]) -> Iterable[str]:
    """Which moments the client gave, and which of them were of no use."""
    used = {(event.name, event.time_seconds) for event in _events(windows) if event.given}
    for event in sorted(given, key=lambda event: event.time_seconds):
        moment = f"{SHORT_EVENT_CAPTIONS[event.name]} at {event.time_seconds:.2f} s"
        if (event.name, event.time_seconds) in used:
            yield f"Given, not found in the film: {moment}."
        else:
            yield f"Given, but no action was measured with it: {moment}."


def _notes(windows: list[ActionWindow], cuts: tuple[float, ...], doubt: Obstacle | None) -> tuple[str, ...]:
    notes = []
    if doubt:
        notes.append(f"No number is sure: {doubt.reason}.")
    if cuts:
        places = " and ".join(f"{cut:.2f} s" for cut in cuts)
        notes.append(f"The film is cut at {places}: each part was measured by itself.")
    if any(window.end_on for window in windows):
        notes.append("Filmed along the pitch: numbers that need a view from the side are absent.")
    if isinstance(reason := windows[0].action, Missing):
        if not windows[0].is_measured:
            return tuple(notes)
        notes.append(f"Measured over the whole clip, because of this: {reason.reason}.")
    elif len(windows) > 1:
        nouns = action_noun(windows[0].discipline).plural
        notes.append(f"{len(windows)} {nouns} were counted; each number is the median over them.")
    if not feet_in_view(windows[0].inside):
        notes.append("The feet are out of the picture: movement is measured against the hips and understated.")
    return tuple(notes)
