"""What to do, decided from one look at both sides: the launches that `jobs` lists and what is seen to run.

| launch            | seen under its name    | then                                                         |
|-------------------|------------------------|--------------------------------------------------------------|
| not open          | live, for some seconds | delete: nobody waits for it                                  |
|                   | live, until then       | nothing: who has just submitted its result ends by itself    |
|                   | ended                  | nothing: its record keeps the name used                      |
| open, unconfirmed | nothing, room          | create                                                       |
|                   | nothing, no room       | nothing: it waits                                            |
|                   | live                   | confirm: whoever created it could not say so                 |
|                   | ended                  | end, as judged                                               |
| open, confirmed   | nothing                | end: lost                                                    |
|                   | another uid            | end: lost; the other is deleted once the launch has ended    |
|                   | live                   | nothing: it is at work                                       |
|                   | ended                  | end, as judged                                               |
| open, any         | live past the deadline | end: deadline; then it is deleted as one that is not open    |
| being cancelled   | live, whatever its uid | delete, at once                                              |
|                   | nothing, or ended      | end: cancelled, which is now proved                          |

Deletions come first, since they make room. Pure: the same look gives the same actions, and a look that failed gives
none because there is none to decide from.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from crease.analysis.v1.launch_pb2 import ENDING_CANCELLED, ENDING_DEADLINE, ENDING_UNSPECIFIED, Ending, Launch
from services.controller.judge import GONE, Verdict, judge
from services.controller.launcher import Seen, name_of


@dataclass(frozen=True)
class View:
    """Both sides, in an order that leaves no doubt: what runs is listed, then the launches, then what runs again.

    What was there before the launches were listed and is none of them has no open launch: by uid, since when. What a
    launch was confirmed for was there before `seen` was, so if it is missing there, it is gone.
    """

    launches: Sequence[Launch]
    seen: Sequence[Seen]
    unwanted_since: Mapping[str, datetime]


@dataclass(frozen=True)
class Create:
    launch: Launch
    why: str


@dataclass(frozen=True)
class Confirm:
    launch: Launch
    seen: Seen
    why: str


@dataclass(frozen=True)
class End:
    launch: Launch
    ending: Ending.ValueType
    why: str


@dataclass(frozen=True)
class Delete:
    seen: Seen
    why: str


Action = Create | Confirm | End | Delete


@dataclass(frozen=True)
class Limits:
    # How much may run at once.
    capacity: int
    # How long one may run.
    deadline: timedelta
    # How long one may still run when its launch has ended.
    linger: timedelta


def decide(view: View, limits: Limits, now: datetime) -> list[Action]:
    """The actions, in the order to take them."""
    by_name = {seen.name: seen for seen in view.seen}
    about = (_about(launch, by_name.get(name_of(launch)), now - limits.deadline) for launch in open_ones(view.launches))
    room = limits.capacity - sum(seen.is_live for seen in view.seen)
    actions = [*_deletions(view, now - limits.linger), *_within(room, about)]
    return sorted(actions, key=lambda action: not isinstance(action, Delete))


def open_ones(launches: Iterable[Launch]) -> list[Launch]:
    """Those that have not ended."""
    return [launch for launch in launches if launch.ending == ENDING_UNSPECIFIED]


def unwanted(launches: Iterable[Launch], earlier: Iterable[Seen]) -> frozenset[str]:
    """The uids of what lives without an open launch; `earlier` was listed before the launches were."""
    wanted = {name_of(launch) for launch in open_ones(launches)}
    return frozenset(seen.uid for seen in earlier if seen.is_live and seen.name not in wanted)


def _deletions(view: View, oldest: datetime) -> Iterable[Action]:
    for seen in view.seen:
        since = view.unwanted_since.get(seen.uid)
        if since and since <= oldest and seen.is_live:
            yield Delete(seen, "Its launch is not open: nobody waits for it")


def _within(room: int, actions: Iterable[Action | None]) -> Iterable[Action]:
    for action in actions:
        if isinstance(action, Create):
            room -= 1
            if room < 0:
                continue
        if action:
            yield action


def _about(launch: Launch, seen: Seen | None, oldest: datetime) -> Action | None:
    if launch.HasField("cancel_requested_at"):
        return _cancelled(launch, seen)
    confirmed = launch.kubernetes_uid
    if seen is None:
        return _judged(launch, GONE) if confirmed else Create(launch, "Its job is queued and nothing runs for it")
    if confirmed and seen.uid != confirmed:
        return _judged(launch, GONE)
    if not seen.is_live:
        return _judged(launch, judge(seen))
    if seen.created_at < oldest:
        return End(launch, ENDING_DEADLINE, "It ran longer than it may")
    return None if confirmed else Confirm(launch, seen, "It runs, and jobs does not know")


def _cancelled(launch: Launch, seen: Seen | None) -> Action:
    if seen and seen.is_live:
        return Delete(seen, "Its job is being cancelled")
    return End(launch, ENDING_CANCELLED, "It was cancelled, and nothing runs for it")


def _judged(launch: Launch, verdict: Verdict) -> End:
    return End(launch, verdict.ending, verdict.sentence)
