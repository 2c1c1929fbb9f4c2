"""Decides the actions of one round, from the open launches that `jobs` lists and the observed workloads.

| launch            | its workload                       | action                                                     |
|-------------------|------------------------------------|------------------------------------------------------------|
| not open (ghost)  | live, within the linger            | none: after its last result an analyzer ends by itself     |
|                   | live, beyond it                    | delete                                                     |
|                   | live, launch never opened          | delete after a longer grace, if the settings allow it and  |
|                   |                                    | the workload names this release                            |
|                   | ended                              | set the status label; the record keeps the name used       |
| open, unconfirmed | none, room                         | create, on a GPU if one is free                            |
|                   | none, no room                      | none: the launch waits                                     |
|                   | none, the previous one lives       | none: the launch waits for its end or a dead node          |
|                   | live                               | confirm: an earlier confirmation was lost                  |
| open, confirmed   | none                               | end as lost                                                |
|                   | another uid                        | end as lost; the other workload is a ghost afterwards      |
|                   | live                               | set the status label                                       |
|                   | live, pending for a new reason     | confirm again, so that ExplainJob has the reason           |
| open, any         | suspended after its start          | end as disruption: its queue took the place back; delete   |
|                   | ended                              | end, as classified                                         |
|                   | start error, patience exhausted    | end as image; delete                                       |
|                   | permanent start error              | end as image at once; delete                               |
|                   | unschedulable, or suspended by its | after the wait, end as unschedulable; delete               |
|                   | queue, on our choice of GPU        |                                                            |
|                   | running beyond the deadline        | end as deadline; delete                                    |
|                   | pending beyond the time to wait    | end as unschedulable; delete                               |
|                   | live, its analyzer has ended       | end, as classified; delete                                 |
| being cancelled   | live or with leftovers, any uid    | delete at once                                             |
|                   | live, on a dead node               | delete by force after a time, if the settings allow it     |
|                   | none, or ended without leftovers   | end as cancelled                                           |

Deletions come first, because they make room. An action that ends a launch deletes its workload only afterwards. The
function is pure: the same snapshot gives the same actions.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from crease.analysis.v1.launch_pb2 import (
    ENDING_CANCELLED,
    ENDING_DEADLINE,
    ENDING_DISRUPTION,
    ENDING_IMAGE,
    ENDING_UNSCHEDULABLE,
    ENDING_UNSPECIFIED,
    Ending,
    Launch,
)
from crease.jobs.v1.job_pb2 import ACCELERATOR_AUTO, ACCELERATOR_GPU, ACCELERATOR_UNSPECIFIED, JobStatus
from services.controller.core.failure_classifier import LOST, Classification, classify
from services.controller.core.launcher import (
    Gpus,
    Observed,
    Pending,
    PendingReason,
    Phase,
    Placement,
    name_of,
    previous_name,
)
from services.controller.core.limits import Limits
from services.controller.core.placement import Placer

STATUS_OF_ENDED = {Phase.SUCCEEDED: "done", Phase.FAILED: "failed"}


@dataclass(frozen=True)
class Snapshot:
    """Both sides at one moment, read in this order: the workloads, the open launches, the workloads again.

    A workload of the first list that has no open launch is a ghost. A workload that is missing from the second list may
    be new, so a launch is ended as lost only after a fresh read.
    """

    launches: Sequence[Launch]
    workloads: Sequence[Observed]
    # Since when each ghost has had no open launch, by uid.
    ghosts_since: Mapping[str, datetime]
    # The uids of the ghosts whose launch `jobs` never opened.
    never_opened: frozenset[str] = frozenset()
    gpus: Gpus | None = None


@dataclass(frozen=True)
class Create:
    launch: Launch
    placement: Placement
    why: str
    # The name of the previous launch's workload, which must not live: one job, one workload.
    after: str = ""


@dataclass(frozen=True)
class Confirm:
    launch: Launch
    observed: Observed
    why: str


@dataclass(frozen=True)
class End:
    launch: Launch
    ending: Ending.ValueType
    why: str
    # The workload to delete once the launch has ended.
    then_delete: Observed | None = None
    # Ends only if a fresh read does not find this uid; empty: any uid; None: without a read.
    if_not_found: str | None = None
    # Ends only if the workload is suspended by a fresh read, too: a stale cache may show it before its admission.
    if_suspended: bool = False


@dataclass(frozen=True)
class Delete:
    observed: Observed
    why: str
    force: bool = False


@dataclass(frozen=True)
class SetStatusLabel:
    observed: Observed
    status: str
    why: str


Action = Create | Confirm | End | Delete | SetStatusLabel
# Deletions make room, so they come first; labels only inform, so they come last.
ORDER = (Delete, Create, End, Confirm, SetStatusLabel)


def decide(snapshot: Snapshot, limits: Limits, now: datetime) -> list[Action]:
    """The actions, in the order in which to perform them."""
    return sorted(_Decision(snapshot, limits, now).actions(), key=lambda action: ORDER.index(type(action)))


def only_open(launches: Iterable[Launch]) -> list[Launch]:
    """The launches that have not ended."""
    return [launch for launch in launches if launch.ending == ENDING_UNSPECIFIED]


def find_ghosts(launches: Iterable[Launch], workloads: Iterable[Observed]) -> dict[str, Observed]:
    """The live workloads without an open launch, by uid; `workloads` must have been listed before the launches."""
    open_names = {name_of(launch) for launch in only_open(launches)}
    return {one.uid: one for one in workloads if one.is_live and one.name not in open_names}


class _Decision:
    """One decision; the fields are computed once from the snapshot."""

    def __init__(self, snapshot: Snapshot, limits: Limits, now: datetime) -> None:
        self._snapshot = snapshot
        self._limits = limits
        self._now = now
        self._by_name = {observed.name: observed for observed in snapshot.workloads}
        self._placer = Placer(snapshot.gpus)
        self._room = limits.capacity - sum(observed.is_live for observed in snapshot.workloads)
        # A workload on a dead node may never end, so the next launch does not wait for it.
        self._busy_jobs = {one.job_id for one in snapshot.workloads if one.is_live and not one.dead_node}

    def actions(self) -> Iterator[Action]:
        open_names = set()
        for launch in only_open(self._snapshot.launches):
            open_names.add(name_of(launch))
            yield from self._for_launch(launch, self._by_name.get(name_of(launch)))
        for observed in self._snapshot.workloads:
            if observed.name not in open_names:
                yield from self._without_launch(observed)

    def _without_launch(self, observed: Observed) -> Iterator[Action]:
        since = self._snapshot.ghosts_since.get(observed.uid)
        if not observed.is_live:
            yield from _set_status_label(observed, STATUS_OF_ENDED[observed.phase])
        elif since and observed.uid in self._snapshot.never_opened:
            grace = self._limits.never_opened_grace
            if grace is not None and not observed.is_unmarked and since <= self._now - grace:
                yield from self._delete(observed, since, "Its launch was never opened")
        elif since and since <= self._now - self._limits.linger:
            yield from self._delete(observed, since, "Its launch is not open")

    def _delete(self, observed: Observed, since: datetime, why: str) -> Iterator[Action]:
        """Deletes until the deletion is accepted; then waits, or forces it on a dead node."""
        force_after = self._limits.force_after
        if observed.dead_node and force_after is not None and since <= self._now - force_after:
            yield Delete(observed, f"{why}. Node {observed.dead_node} does not answer", force=True)
        elif not observed.is_deleting:
            yield Delete(observed, why)

    def _for_launch(self, launch: Launch, observed: Observed | None) -> Iterator[Action]:
        if launch.HasField("cancel_requested_at"):
            yield from self._cancel(launch, observed)
        elif observed is None and not launch.kubernetes_uid:
            yield from self._create(launch)
        elif observed is None or launch.kubernetes_uid not in ("", observed.uid):
            yield _end_as(launch, LOST, if_not_found=launch.kubernetes_uid)
        elif not observed.is_live:
            yield _end_as(launch, classify(observed))
        elif observed.exit_code is not None:
            ended = classify(observed)
            yield End(launch, ended.ending, ended.sentence, then_delete=observed)
        elif (end := self._end_overdue(launch, observed)) is not None:
            yield end
        else:
            yield from _confirm(launch, observed)
            yield from _set_status_label(observed, _status_word(launch.job_status))

    def _create(self, launch: Launch) -> Iterator[Action]:
        if launch.job_id in self._busy_jobs:
            return
        self._room -= 1
        if self._room >= 0:
            why = "The launch is open and has no workload"
            yield Create(launch, self._placer.place(launch), why, after=previous_name(launch))

    def _cancel(self, launch: Launch, observed: Observed | None) -> Iterator[Action]:
        if observed is None or not (observed.is_live or observed.has_leftovers):
            yield End(launch, ENDING_CANCELLED, "The job was cancelled, and no workload is left", if_not_found="")
            return
        requested_at = launch.cancel_requested_at.ToDatetime(self._now.tzinfo)
        yield from self._delete(observed, requested_at, "The job is being cancelled")
        if observed.dead_node and observed.uid == launch.kubernetes_uid:
            yield from _confirm(launch, observed)

    def _end_overdue(self, launch: Launch, observed: Observed) -> End | None:
        """Ends a launch whose live workload has exhausted one of the limits."""
        pending, limits = observed.pending, self._limits
        if pending and self._start_has_failed(pending):
            return End(launch, ENDING_IMAGE, f"The analyzer cannot start: {pending.message}", then_delete=observed)
        if pending and pending.reason == PendingReason.SUSPENDED and launch.HasField("started_at"):
            # A queue that admits the Job again would start a second pod, to which `jobs` gives no lease.
            why = f"The queue suspended the analysis while it ran: {pending.message}"
            return End(launch, ENDING_DISRUPTION, why, then_delete=observed, if_suspended=True)
        if (
            pending
            and pending.reason in (PendingReason.UNSCHEDULABLE, PendingReason.SUSPENDED)
            and pending.since <= self._now - limits.gpu_wait
            and _is_on_chosen_gpu(launch, observed)
        ):
            return End(launch, ENDING_UNSCHEDULABLE, pending.message, then_delete=observed)
        if observed.phase == Phase.PENDING:
            is_suspended = pending is not None and pending.reason == PendingReason.SUSPENDED
            if is_suspended or observed.created_at > self._now - limits.wait:
                return None
            cause = pending.message if pending else "the cluster gives no reason"
            why = f"The pod did not start within {limits.wait.total_seconds():.0f} s: {cause}"
            return End(launch, ENDING_UNSCHEDULABLE, why, then_delete=observed)
        if (observed.started_at or observed.created_at) > self._now - limits.deadline:
            return None
        return End(launch, ENDING_DEADLINE, "The analysis exceeded its deadline", then_delete=observed)

    def _start_has_failed(self, pending: Pending) -> bool:
        if pending.reason == PendingReason.PERMANENT_START_ERROR:
            return True
        is_overdue = pending.since <= self._now - self._limits.start_patience
        return pending.reason == PendingReason.START_ERROR and is_overdue


def _is_on_chosen_gpu(launch: Launch, observed: Observed) -> bool:
    """Whether the controller chose the GPU: the launch left the accelerator to it."""
    left_open = launch.accelerator in (ACCELERATOR_AUTO, ACCELERATOR_UNSPECIFIED)
    return left_open and observed.placed_on == ACCELERATOR_GPU


def _confirm(launch: Launch, observed: Observed) -> Iterator[Action]:
    if not launch.kubernetes_uid:
        yield Confirm(launch, observed, "The workload exists, but its launch is not confirmed")
    elif launch.placement_reason != observed.placement_reason and (
        observed.dead_node or not launch.HasField("started_at")
    ):
        yield Confirm(launch, observed, "The placement has changed")


def _set_status_label(observed: Observed, status: str) -> Iterator[Action]:
    if status and observed.status_label not in (None, status):
        why = f"The job is {status}" if observed.is_live else f"The analysis ended as {status}"
        yield SetStatusLabel(observed, status, why)


def _status_word(status: JobStatus.ValueType) -> str:
    return JobStatus.Name(status).removeprefix("JOB_STATUS_").lower() if status else ""


def _end_as(launch: Launch, classification: Classification, *, if_not_found: str | None = None) -> End:
    return End(launch, classification.ending, classification.sentence, if_not_found=if_not_found)
