"""Holds the words of events, actions and values that overlay, summary and report share."""

from typing import NamedTuple

from services.analyzer.biomechanics.events import Event, EventName
from services.analyzer.biomechanics.model import Repetition
from services.analyzer.knowledge.loader import Mark, MarkOrigin
from services.naming import EVENT_LABELS, Discipline
from services.rules.numbers import Unit, format_value

EVENT_CAPTIONS = {name: EVENT_LABELS[name] for name in EventName}
# For the narrow places of a plot.
SHORT_EVENT_CAPTIONS = {
    EventName.FRONT_FOOT_CONTACT: "front foot down",
    EventName.RELEASE: "release",
    EventName.FASTEST_HANDS: "fastest hands",
    EventName.THROW: "throw",
    EventName.TAKE: "take",
}

# Kinds of action that no sign proves: they are named as a possibility, unless the client gave them.
UNPROVEN = (EventName.THROW, EventName.TAKE)


def event_caption(event: Event) -> str:
    """The words of an event in a picture."""
    caption = EVENT_CAPTIONS[event.name]
    return f"Perhaps a {caption.lower()}" if event.name in UNPROVEN and not event.given else caption


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
    return f"perhaps a {moment}" if name in UNPROVEN else moment


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


def format_mark(mark: Mark, unit: Unit) -> str:
    """A mark with its unit: `120° or more`."""
    return f"{format_value(mark.value, unit)} or {'more' if mark.at_least else 'less'}"
