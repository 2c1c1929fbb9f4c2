"""`make gameday`: each fault in turn, which alert told of it and how soon, and whether its page's command repaired it.

What was to be read meanwhile is kept in readings/; a table of all goes into docs/operating.md. Fails where an alert did
not fire, what was read fits another fault too, or the repair repaired nothing. With names of alerts: only those.
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
HEAD = (
    "| fault | alerts | the last fired after | read, and it fits no other | repaired by | silent again after |\n"
    "|---|---|---|---|---|---|\n"
)
HOW = (
    "Played on real programs, PostgreSQL, S3, SQS and Prometheus of one machine, the last five with a real API server; "
    "analyses are stand-ins. Every duration in the rules, and every age of a job, an event or a message, is divided by "
    f"{FASTER}: a second here is a minute there. The grace of 30 s of ghosts and orphans, and the age of what the "
    "controller sees, are as they are. *After* counts from the first step of the fault, or of the repair.\n\n"
)


def main() -> None:
    here(_chosen(FAULTS))
    in_a_cluster(_chosen(IN_A_CLUSTER))


def _chosen(faults: Sequence[Fault]) -> Sequence[Fault]:
    return [fault for fault in faults if not sys.argv[1:] or {*fault.alerts} & {*sys.argv[1:]}]


def here(faults: Sequence[Fault]) -> None:
    """On this machine."""
    if not faults:
        return
    with _folder() as folder, arena(folder / "arena") as made:
        read_nothing(made)
        for fault in faults:
            write(fault, play(made, fault, keep=True))


def in_a_cluster(faults: Sequence[Fault]) -> None:
    """On a real Kubernetes, where there can be one."""
    if not faults:
        return
    if reason := cannot():
        say(f"Left out: {reason}")
        return
    with (
        _folder() as folder,
        cluster("--control-plane") as made,
        namespace(made, folder) as chosen,
        arena(folder / "arena", chosen) as ready,
    ):
        for fault in faults:
            write(fault, play(ready, fault, keep=True))


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """That PostgreSQL's own user can reach."""
    with tempfile.TemporaryDirectory(prefix="crease-gameday-") as folder:
        Path(folder).chmod(0o711)
        Path(folder, "arena").mkdir(mode=0o711)
        yield Path(folder)


def write(fault: Fault, row: str) -> None:
    """Puts its row into the table of the page, in place of an older one."""
    before, rest = PAGE.read_text().split(BEGIN)
    table, after = rest.split(END)
    rows = {line.split(" | ")[0].removeprefix("| "): f"{line}\n" for line in table.splitlines() if line[:2] == "| "}
    rows[fault.what] = row
    played = "".join(rows[one.what] for one in (*FAULTS, *IN_A_CLUSTER) if one.what in rows)
    PAGE.write_text(f"{before}{BEGIN}\n\n{HOW}{HEAD}{played}\n{END}{after}")


if __name__ == "__main__":
    main()
