"""Where analyses run, as an operator looks at it: a namespace (`cluster.py`), or this machine (`machine.py`).

The services say what was decided and why; a place says what is there now.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Run:
    """What runs for a launch, or ran: its name, how it is, and what the place says of that."""

    name: str
    state: str
    words: str = ""


@dataclass(frozen=True)
class Told:
    """What was noted of a job's runs, and when."""

    at: str
    reason: str
    words: str


@dataclass(frozen=True)
class Check:
    """One look of `doctor`; `advice` is what to do where it is not well."""

    what: str
    well: bool
    words: str
    advice: str = ""


class Place(Protocol):
    """Every method raises Trouble where the place does not answer."""

    def runs(self, job_id: str) -> Sequence[Run]:
        """Of a job, the oldest first; none where they were forgotten."""

    def told(self, job_id: str) -> Sequence[Told]:
        """The oldest first."""

    def show_logs(self, job_id: str, *, follow: bool) -> None:
        """Prints what the newest run of a job has said. Raises Trouble where nothing is left of it."""

    def drained(self) -> str:
        """Who asked for it and when; empty where new analyses are launched."""

    def drain(self, why: str) -> None:
        """Nothing new is launched from now on, and what runs goes on. Empty: launches again."""

    def metrics(self) -> Mapping[str, str]:
        """What each program exposes, as Prometheus reads it, by the program's name; those that answer."""

    def checks(self) -> Iterator[Check]:
        """What can be wrong with the place itself."""
