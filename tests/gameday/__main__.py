"""`make gameday`: injects each fault, waits for its alerts, and applies the repair of its page.

It stores each reading in readings/ and writes the results into the table of docs/operating.md. It fails if an alert
does not fire, a reading also matches another fault, or a repair has no effect. Arguments select faults by alert name.
"""

import contextlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from testing.servers.kubernetes import cannot, cluster, namespace
from tests.gameday.arena import arena
from tests.gameday.faults import FAULTS, IN_A_CLUSTER, Fault
from tests.gameday.playing import play, read_nothing, say
from tests.gameday.prometheus import FASTER
from tests.gameday.signs import PAGE

BEGIN, END = "<!-- written by make gameday -->", "<!-- until here -->"
HEAD = "| fault | alerts | last alert after | evidence | repair | alerts cleared after |\n|---|---|---|---|---|---|\n"
HOW = (
    "Measured with the real programs, PostgreSQL, S3, SQS and Prometheus on one machine, the last five faults with a "
    f"real API server; analyses are stand-ins. Every duration in the rules is divided by {FASTER}, and so is every age "
    "of a job, an event or a message: a second in the table is a minute in production. The 30 s grace period of ghosts "
    "and lost launches and the age of the controller's cache are not shortened. *After* counts from the first step of "
    "the fault, or of the repair.\n\n"
)


def main() -> None:
    on_this_machine(_chosen(FAULTS))
    in_a_cluster(_chosen(IN_A_CLUSTER))


def _chosen(faults: Sequence[Fault]) -> Sequence[Fault]:
    return [fault for fault in faults if not sys.argv[1:] or {*fault.alerts} & {*sys.argv[1:]}]


def on_this_machine(faults: Sequence[Fault]) -> None:
    """Runs faults on this machine."""
    if not faults:
        return
    with _folder() as folder, arena(folder / "arena") as made:
        read_nothing(made)
        for fault in faults:
            write_row(fault, play(made, fault, keep=True))


def in_a_cluster(faults: Sequence[Fault]) -> None:
    """Runs faults on a real Kubernetes, if this machine can run one."""
    if not faults:
        return
    if reason := cannot():
        say(f"Skipped: {reason}")
        return
    with (
        _folder() as folder,
        cluster("--control-plane") as made,
        namespace(made, folder) as chosen,
        arena(folder / "arena", chosen) as ready,
    ):
        for fault in faults:
            write_row(fault, play(ready, fault, keep=True))


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A temporary folder that PostgreSQL's own user can reach."""
    with tempfile.TemporaryDirectory(prefix="crease-gameday-") as folder:
        Path(folder).chmod(0o711)
        Path(folder, "arena").mkdir(mode=0o711)
        yield Path(folder)


def write_row(fault: Fault, row: str) -> None:
    """Replaces the fault's row in the table of the page."""
    before, rest = PAGE.read_text().split(BEGIN)
    old, after = rest.split(END)
    rows = {line.split(" | ")[0].removeprefix("| "): f"{line}\n" for line in old.splitlines() if line[:2] == "| "}
    rows[fault.name] = row
    table = "".join(rows[one.name] for one in (*FAULTS, *IN_A_CLUSTER) if one.name in rows)
    PAGE.write_text(f"{before}{BEGIN}\n\n{HOW}{HEAD}{table}\n{END}{after}")


if __name__ == "__main__":
    main()
