"""What to do, decided from one look at both sides: the launches that `jobs` lists and what is seen to run.

| launch            | seen under its name                | then                                                     |
|-------------------|------------------------------------|----------------------------------------------------------|
| not open          | live, for some seconds             | delete: nobody waits for it                              |
|                   | live, until then                   | nothing: who has just submitted its result ends by itself|
|                   | live, of a launch that never was   | delete, after a longer grace and if told to: an orphan   |
|                   | ended                              | nothing: its record keeps the name used; mark how        |
| open, unconfirmed | nothing, room                      | create, on a GPU where there is one                      |
|                   | nothing, no room                   | nothing: it waits                                        |
|                   | nothing, but an older one lives    | nothing: it waits until that is gone, or its node is dead|
|                   | live                               | confirm: whoever created it could not say so             |
| open, confirmed   | nothing                            | end: lost                                                |
|                   | another uid                        | end: lost; the other is deleted once the launch has ended|
|                   | live                               | nothing: it is at work; mark where its job stands        |
|                   | live, held up by something new     | confirm again: Explain shall know                        |
| open, any         | ended                              | end, as judged                                           |
|                   | cannot start, past our patience    | end: image; delete                                       |
|                   | never starts                       | the same, at once                                        |
|                   | waits for a GPU of our choice      | past our patience, end: unschedulable; delete            |
|                   | live past the deadline             | end: deadline; delete                                    |
|                   | waiting past the deadline          | end: unschedulable; delete                               |
| being cancelled   | live or left, whatever its uid     | delete, at once                                          |
|                   | live, on a node that is dead       | delete by force, after some time and if told to          |
|                   | nothing, or a record of its end    | end: cancelled, which is now proved                      |

Deletions come first, since they make room. Who ends a launch because of what still lives deletes that afterwards, never
before. Pure: the same look gives the same actions, and a look that failed gives none: there is none to decide from.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from crease.analysis.v1.launch_pb2 import (
    ENDING_CANCELLED,
    ENDING_DEADLINE,
    ENDING_IMAGE,
    ENDING_UNSCHEDULABLE,
    ENDING_UNSPECIFIED,
    Ending,
    Launch,
)
from crease.jobs.v1.job_pb2 import ACCELERATOR_AUTO, ACCELERATOR_GPU, ACCELERATOR_UNSPECIFIED, JobStatus
from services.controller.core.failure_classifier import GONE, Verdict, judge
from services.controller.core.launcher import Gpus, Hold, Holding, Phase, Placement, Seen, name_of, previous_name
from services.controller.core.limits import Limits
from services.controller.core.placement import Placing

ENDED_AS = {Phase.SUCCEEDED: "done", Phase.FAILED: "failed"}


@dataclass(frozen=True)
class View:
    """Both sides, in an order that leaves no doubt: what runs is listed, then the launches, then what runs again.

    What was there before the launches were listed and is none of them has no open launch: by uid, since when. What is
    missing from `seen` may have been created just now, so nothing is said to be gone before it was looked for.
    """

    launches: Sequence[Launch]
    seen: Sequence[Seen]
    unwanted_since: Mapping[str, datetime]
    # The uids of those among them that `jobs` has never heard of.
    orphans: frozenset[str] = frozenset()
    gpus: Gpus | None = None


@dataclass(frozen=True)
class Create:
    launch: Launch
    placement: Placement
    why: str
    # The name of the launch before, which must not live: one job, one at a time.
    after: str = ""


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
    # Deleted once the launch has ended.
    then_delete: Seen | None = None
    # Nothing was seen, so look again: only if nothing of it lives does this follow. The uid, or empty for any.
    if_gone: str | None = None


@dataclass(frozen=True)
class Delete:
    seen: Seen
    why: str
    force: bool = False


@dataclass(frozen=True)
class Mark:
    seen: Seen
    status: str
    why: str


Action = Create | Confirm | End | Delete | Mark
# What makes room comes first, what only tells comes last.
ORDER = (Delete, Create, End, Confirm, Mark)


def decide(view: View, limits: Limits, now: datetime) -> list[Action]:
    """The actions, in the order to take them."""
    return sorted(_Look(view, limits, now).actions(), key=lambda action: ORDER.index(type(action)))


def open_ones(launches: Iterable[Launch]) -> list[Launch]:
    """Those that have not ended."""
    return [launch for launch in launches if launch.ending == ENDING_UNSPECIFIED]


def unwanted(launches: Iterable[Launch], earlier: Iterable[Seen]) -> dict[str, Seen]:
    """What lives without an open launch, by uid; `earlier` was listed before the launches were."""
    wanted = {name_of(launch) for launch in open_ones(launches)}
    return {seen.uid: seen for seen in earlier if seen.is_live and seen.name not in wanted}


class _Look:
    """One decision, with what it asks for again and again."""

    def __init__(self, view: View, limits: Limits, now: datetime) -> None:
        self._view = view
        self._limits = limits
        self._now = now
        self._by_name = {seen.name: seen for seen in view.seen}
        self._placing = Placing(view.gpus)
        self._room = limits.capacity - sum(seen.is_live for seen in view.seen)
        # What a dead node holds cannot be waited for.
        self._at_work = {seen.job_id for seen in view.seen if seen.is_live and not seen.dead_node}

    def actions(self) -> Iterator[Action]:
        wanted = set()
        for launch in open_ones(self._view.launches):
            wanted.add(name_of(launch))
            yield from self._about(launch, self._by_name.get(name_of(launch)))
        for seen in self._view.seen:
            if seen.name not in wanted:
                yield from self._without_launch(seen)

    def _without_launch(self, seen: Seen) -> Iterator[Action]:
        since = self._view.unwanted_since.get(seen.uid)
        if not seen.is_live:
            yield from _marked(seen, ENDED_AS[seen.phase])
        elif since and seen.uid in self._view.orphans:
            grace = self._limits.orphan_grace
            if grace is not None and since <= self._now - grace:
                yield from self._deleted(seen, since, "Nobody ever opened a launch for it")
        elif since and since <= self._now - self._limits.linger:
            yield from self._deleted(seen, since, "Its launch is not open: nobody waits for it")

    def _deleted(self, seen: Seen, since: datetime, why: str) -> Iterator[Action]:
        """Asks until it is being deleted; then waits, but for ever only if told to."""
        force = self._limits.force_after
        if seen.dead_node and force is not None and since <= self._now - force:
            yield Delete(seen, f"{why}. Its node {seen.dead_node} does not answer", force=True)
        elif not seen.is_deleting:
            yield Delete(seen, why)

    def _about(self, launch: Launch, seen: Seen | None) -> Iterator[Action]:
        if launch.HasField("cancel_requested_at"):
            yield from self._cancelled(launch, seen)
        elif seen is None and not launch.kubernetes_uid:
            yield from self._create(launch)
        elif seen is None or launch.kubernetes_uid not in ("", seen.uid):
            yield _judged(launch, GONE, if_gone=launch.kubernetes_uid)
        elif not seen.is_live:
            yield _judged(launch, judge(seen))
        elif (end := self._overdue(launch, seen)) is not None:
            yield end
        else:
            yield from _confirmed(launch, seen)
            yield from _marked(seen, _word(launch.job_status))

    def _create(self, launch: Launch) -> Iterator[Action]:
        if launch.job_id in self._at_work:
            return
        self._room -= 1
        if self._room >= 0:
            why = "Its job is queued and nothing runs for it"
            yield Create(launch, self._placing.place(launch), why, after=previous_name(launch))

    def _cancelled(self, launch: Launch, seen: Seen | None) -> Iterator[Action]:
        if seen is None or not (seen.is_live or seen.is_left):
            yield End(launch, ENDING_CANCELLED, "It was cancelled, and nothing is left of it", if_gone="")
            return
        asked_at = launch.cancel_requested_at.ToDatetime(self._now.tzinfo)
        yield from self._deleted(seen, asked_at, "Its job is being cancelled")
        if seen.dead_node and seen.uid == launch.kubernetes_uid:
            yield from _confirmed(launch, seen)

    def _overdue(self, launch: Launch, seen: Seen) -> End | None:
        """The end of a launch whose time is up for what still lives."""
        hold, limits = seen.hold, self._limits
        if hold and self._cannot_start(hold):
            return End(launch, ENDING_IMAGE, f"It cannot be started: {hold.words}", then_delete=seen)
        chosen = seen.placed_on == ACCELERATOR_GPU and launch.accelerator in (ACCELERATOR_AUTO, ACCELERATOR_UNSPECIFIED)
        if chosen and hold and hold.holding == Holding.UNSCHEDULED and hold.since <= self._now - limits.gpu_wait:
            return End(launch, ENDING_UNSCHEDULABLE, hold.words, then_delete=seen)
        if seen.created_at > self._now - limits.deadline or (hold and hold.holding == Holding.SUSPENDED):
            return None
        if hold:
            return End(launch, ENDING_UNSCHEDULABLE, f"It waited until its deadline: {hold.words}", then_delete=seen)
        return End(launch, ENDING_DEADLINE, "It ran longer than it may", then_delete=seen)

    def _cannot_start(self, hold: Hold) -> bool:
        patient = hold.holding == Holding.CANNOT_START and hold.since > self._now - self._limits.start_patience
        return hold.holding in (Holding.CANNOT_START, Holding.NEVER_STARTS) and not patient


def _confirmed(launch: Launch, seen: Seen) -> Iterator[Action]:
    if not launch.kubernetes_uid:
        yield Confirm(launch, seen, "It runs, and jobs does not know")
    elif launch.placement_reason != seen.placement_reason and (seen.dead_node or not launch.HasField("started_at")):
        yield Confirm(launch, seen, "What is known of its place has changed")


def _marked(seen: Seen, status: str) -> Iterator[Action]:
    if status and seen.status not in (None, status):
        yield Mark(seen, status, f"Its job is {status}" if seen.is_live else f"It ended as {status}")


def _word(status: JobStatus.ValueType) -> str:
    return JobStatus.Name(status).removeprefix("JOB_STATUS_").lower() if status else ""


def _judged(launch: Launch, verdict: Verdict, *, if_gone: str | None = None) -> End:
    return End(launch, verdict.ending, verdict.sentence, if_gone=if_gone)
