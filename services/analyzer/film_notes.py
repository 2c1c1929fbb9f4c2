"""Says what a coach must know of a film before reading its numbers: what was skipped, joined, turned or slowed down.

Each note is one or two sentences. The report shows them above the findings, results.json in `notes`.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from services.analyzer.video.probe import Video
from services.naming import CAMERA_VIEWS

if TYPE_CHECKING:
    from services.analyzer.biomechanics.model import Measurements, Metric, Obstacle
    from services.analyzer.pose.passes import PoseResult

# A difference between the clocks of the report and of a player that a person notices.
NOTICEABLE_SECONDS = 0.1
# No action can be found with fewer frames a second. A rate that is lower by rounding counts as this one.
FEWEST_FPS = 10.0
FILM_FASTER = "Film with 30 frames a second or more."
TOO_COARSE = "a first look takes too few frames for it"


def film_notes(video: Video, resized_seconds: float | None) -> tuple[str, ...]:
    """The notes of a video; resized_seconds: when its picture changes shape, None if it never does."""
    notes = []
    if video.slowdown != 1:
        pace = f"{video.slowdown:.1f} times slower" if video.slowdown > 1 else f"{1 / video.slowdown:.1f} times faster"
        notes.append(
            f"The camera recorded {video.capture_fps:.0f} frames a second, and the file plays {pace} than life. "
            "All times and speeds here are of real time."
        )
    if video.tracks > 1:
        notes.append(
            f"The file has {video.tracks} video tracks. The default one, {video.width}x{video.height}, is analysed."
        )
    if video.ignored_recordings:
        notes.append(
            f"Another recording was joined to this file at its end, at {video.duration_seconds:.1f} s. "
            "It is not analysed: send it as a film of its own."
        )
    if video.join_seconds:
        places = " and ".join(f"{seconds:.1f} s" for seconds in video.join_seconds)
        notes.append(f"Several recordings, or parts of one, were joined to this film: time begins again at {places}.")
    if resized_seconds is not None:
        notes.append(
            f"The picture changes its shape at {resized_seconds:.1f} s, as when a phone is turned. "
            "Pictures of another shape than the first are shown smaller, not stretched."
        )
    if video.interlaced:
        notes.append(f"The film is interlaced. Each frame was split into its two pictures: {video.fps:.2f} a second.")
    if video.slowed:
        notes.append(
            "Parts of the film are shown at another speed than they were recorded. Times are those of a player."
        )
    if abs(video.late_seconds) >= NOTICEABLE_SECONDS:
        notes.append(
            f"Times count from the first picture. A player's clock shows {abs(video.late_seconds):.2f} s "
            f"{'more' if video.late_seconds > 0 else 'less'}."
        )
    return tuple(notes)


def ask_who(poses: "PoseResult") -> "Obstacle | None":
    """Why nobody can be judged among several people, and what to send; None where the player is known."""
    if poses.is_clear:
        return None
    from services.analyzer.biomechanics.model import Obstacle
    from services.analyzer.coaching.phrases import count_phrase
    from services.rules.options import Correction

    if len(poses.candidates) == 1:
        reason = "people who are not seen together act in this film, so it is unclear which one is the player"
        return Obstacle(reason, "Cut the film so that it shows one player.")
    people = count_phrase(len(poses.candidates)) if poses.candidates else "several"
    reason = f"{people} people are in view, and the film does not show which one is the player"
    if not poses.candidates:
        return Obstacle(reason, f"Show the player in the first picture: {Correction.PERSON.place}.")
    numbered = " or ".join(f"person {number}" for number in range(1, len(poses.candidates) + 1))
    return Obstacle(reason, f"Choose the player on the film's page: {numbered}.")


def contradict_view(measured: "Measurements", camera_view: str) -> "Measurements":
    """The measurements, with a note if the client names another view than the film shows. camera_view: may be empty."""
    if measured.end_on is None or not camera_view or measured.end_on == (camera_view != "side"):
        return measured
    seen = "along the pitch" if measured.end_on else "from the side"
    stated = CAMERA_VIEWS.get(camera_view, camera_view)
    note = f"The film was sent as filmed {stated}, but it looks filmed {seen}, and is measured so."
    return replace(measured, notes=(note, *measured.notes), contradiction=note)


def describe_film(measured: "Measurements", video: Video, resized_seconds: float | None) -> "Measurements":
    """The measurements with the film's notes; too low a frame rate is why they are not judged."""
    measured = replace(measured, notes=(*film_notes(video, resized_seconds), *measured.notes))
    if video.fps >= FEWEST_FPS * 0.95:
        return measured
    from services.analyzer.biomechanics.measurement import NO_PLAYER
    from services.analyzer.biomechanics.model import Obstacle

    rate = f"{video.fps:.2g} frame{'' if video.fps == 1 else 's'} a second"
    reason = f"{rate} {'is' if video.fps == 1 else 'are'} too few: {FEWEST_FPS:.0f} are needed"
    return _with_reasons(replace(measured, obstacle=Obstacle(reason, FILM_FASTER)), NO_PLAYER, reason)


def first_look_extent(end_seconds: float, limit_seconds: float) -> str:
    """What of a film that ends at `end_seconds` a first look up to `limit_seconds` sees, in the words of a reason."""
    return f"the first {limit_seconds:.0f} seconds" if end_seconds > limit_seconds else "this film"


def describe_first_look(measured: "Measurements") -> "Measurements":
    """The measurements of a first look: where it takes too few frames, the film itself may have enough."""
    from services.analyzer.biomechanics.action_window import TOO_FEW_FOR_A_DELIVERY
    from services.analyzer.biomechanics.foot_contact import TOO_FEW
    from services.analyzer.biomechanics.metrics.unscored import TOO_FEW_FOR_AN_ELBOW

    for reason in (TOO_FEW, TOO_FEW_FOR_A_DELIVERY, TOO_FEW_FOR_AN_ELBOW):
        measured = _with_reasons(measured, reason, TOO_COARSE)
    return measured


def _with_reasons(measured: "Measurements", replaced: str, reason: str) -> "Measurements":
    """The measurements with one reason of absence in place of another."""
    return replace(
        measured,
        metrics={name: _with_reason(metric, replaced, reason) for name, metric in measured.metrics.items()},
        measures={name: _with_reason(metric, replaced, reason) for name, metric in measured.measures.items()},
    )


def _with_reason(metric: "Metric", replaced: str, reason: str) -> "Metric":
    return replace(metric, absent_reason=reason) if metric.absent_reason == replaced else metric
