"""Runtime: where analyses run, as an operator sees it. A namespace (kubernetes.py) or this machine (laptop.py).

The services report what they decided; a runtime reports what exists now.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Run:
    """A Kubernetes Job, a pod or a process of a launch, with its state and the runtime's explanation of it."""

    name: str
    state: str
    detail: str = ""


@dataclass(frozen=True)
class RecordedEvent:
    """An event that the runtime recorded about a job's runs; `at` is a timestamp as recorded."""

    at: str
    reason: str
    message: str


@dataclass(frozen=True)
class Check:
    """One line of `crease doctor`; `advice` tells the operator what to do if not `ok`.

    `made`: whether the operator's rights allowed the check.
    """

    name: str
    ok: bool
    detail: str
    advice: str = ""
    made: bool = True


class Runtime(Protocol):
    """Every method raises CommandError if the runtime does not answer."""

    def list_runs(self, job_id: str) -> Sequence[Run]:
        """The runs of a job, oldest first; empty if the runtime has deleted them."""

    def list_events(self, job_id: str) -> Sequence[RecordedEvent]:
        """The events of a job's runs, oldest first."""

    def show_logs(self, job_id: str, *, follow: bool) -> None:
        """Prints the log of a job's newest run. Raises CommandError if there is none."""

    def drained_by(self) -> str:
        """Who drained the controller and when; empty if it is not drained."""

    def drain(self, drained_by: str) -> None:
        """Stops new launches; running analyses continue."""

    def undo_drain(self) -> None:
        """Allows new launches again."""

    def read_metrics(self) -> Mapping[str, str]:
        """Each program's metrics in Prometheus's text format, by the program's name; only those that answer."""

    def run_checks(self) -> Iterator[Check]:
        """The checks of the runtime itself."""
