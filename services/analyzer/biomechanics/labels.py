"""Holds the words of events, actions and values that overlay, summary and report share."""

from typing import NamedTuple

from services.analyzer.biomechanics.events import Event, EventName
from services.analyzer.biomechanics.kinematics import BODY_PER_STATURE
from services.analyzer.biomechanics.model import Repetition
from services.analyzer.knowledge.loader import Mark, MarkOrigin
from services.naming import UNPROVEN_EVENTS, Discipline, event_label
from services.rules.numbers import Unit, format_number, format_value

# For the narrow places of a plot.
SHORT_EVENT_CAPTIONS = {
    EventName.FRONT_FOOT_CONTACT: "front foot down",
    EventName.RELEASE: "release",
    EventName.FASTEST_HANDS: "fastest hands",
    EventName.THROW: "throw",
    EventName.TAKE: "take",
}


def event_caption(event: Event) -> str:
    """The words of an event in a picture."""
    return event_label(event.name, event.given)


def short_event_caption(event: Event) -> str:
    """The words of an event in a narrow place; `throw?` for a possibility."""
    caption = SHORT_EVENT_CAPTIONS[event.name]
    return f"{caption}?" if event.name in UNPROVEN_EVENTS and not event.given else caption


def claim(repetition: Repetition) -> str:
    """What is claimed of one action: `Release at 1.00 s, right arm, left leg in front, front foot down at 0.88 s`."""
    parts = [_moment(repetition, repetition.name, repetition.time_seconds)]
    if repetition.name in (EventName.RELEASE, EventName.THROW):
        parts.append(f"{repetition.side} arm")
    if repetition.front_leg:
        parts.append(f"{repetition.front_leg} leg in front")
    if repetition.contact_seconds is not None:
        parts.append(_moment(repetition, EventName.FRONT_FOOT_CONTACT, repetition.contact_seconds))
    text = ", ".join(parts)
    return text[0].upper() + text[1:]


def _moment(repetition: Repetition, name: EventName, seconds: float) -> str:
    moment = f"{SHORT_EVENT_CAPTIONS[name]} at {seconds:.2f} s"
    if name in repetition.given:
        return f"{moment} (given)"
    return f"perhaps a {moment}" if name in UNPROVEN_EVENTS else moment


class Noun(NamedTuple):
    """A noun in both numbers."""

    singular: str
    plural: str


ACTION_NOUNS: dict[str, Noun] = {
    Discipline.BATTING: Noun("stroke", "strokes"),
    Discipline.BOWLING: Noun("delivery", "deliveries"),
}


def action_noun(discipline: str) -> Noun:
    """The noun for an action of a discipline; for any other discipline, or none, `action`."""
    return ACTION_NOUNS.get(discipline, Noun("action", "actions"))


def mark_name(mark: Mark) -> str:
    """Whose a mark is: `our mark`, or `the mark of STUDY (20 elite men, in space)`."""
    stated = mark.stated
    if stated.origin is MarkOrigin.JUDGEMENT:
        return "our mark"
    plane = "the image" if stated.plane == "image" else "space"
    return f"the mark of {stated.study} ({stated.n} {stated.who}, in {plane})"


def format_mark(mark: Mark, unit: Unit, height_cm: float | None = None) -> str:
    """A mark with its unit: `120° or more`; of a player whose height is known `0.10 body lengths (14 cm) or less`."""
    return f"{format_length(mark.value, unit, None, height_cm)} or {'more' if mark.at_least else 'less'}"


def format_length(value: float, unit: Unit, error: float | None, height_cm: float | None) -> str:
    """A number with its unit; a length of a player whose height is known also in centimetres: `… (20 ± 1 cm)`."""
    words = format_value(value, unit, error)
    size = _unit_in_cm(unit, height_cm)
    return f"{words} ({_in_cm(value * size, error and error * size)})" if size else words


def short_length(value: float, unit: Unit, height_cm: float | None) -> str:
    """A number for a place of a few letters: in centimetres if it is a length of a player whose height is known."""
    size = _unit_in_cm(unit, height_cm)
    return _in_cm(value * size, None) if size else format_number(value, unit)


def _unit_in_cm(unit: Unit, height_cm: float | None) -> float:
    return (height_cm or 0.0) * {Unit.BODY_HEIGHTS: 1.0, Unit.BODY_LENGTHS: BODY_PER_STATURE}.get(unit, 0.0)


def _in_cm(value: float, error: float | None) -> str:
    # A height is known to a centimetre, and so is what is measured by it.
    return format_value(value, Unit.CENTIMETRES, max(error, 1.0) if error else None)
