"""`python -m tests.e2e.recovery`: writes the times of the last `make e2e` into the table of docs/operating.md."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TIMES, PAGE = ROOT / "build" / "e2e" / "times", ROOT / "docs" / "operating.md"
# The last cell of a row, by the beginning of its first one. A name in braces is a time: what happened, as in `timed`.
CELLS = {
    "the pod is deleted": "{pod deleted}",
    "the Kubernetes Job is deleted": "{Kubernetes Job deleted}",
    "the pod is evicted": "{pod evicted}",
    "the image does not exist": "failed {image missing} after the upload with `CREASE_START_PATIENCE_SECONDS` at 5 "
    "(default 30)",
    "the quota is used up": "{quota deleted} after the quota is raised",
    "the promised GPU never appears": "{GPU that never appears} with `analyzer.gpu.waitSeconds` at 5 (default 120)",
    "all replicas of `jobs`": "all replicas ready: `jobs` {jobs killed}, `upload` {upload killed}, controller "
    "{controller killed}",
    "PostgreSQL is killed": "{PostgreSQL killed}",
}


def renew(page: str, times: str) -> str:
    """The page with the times of a run. Raises KeyError if the run or the page lacks one."""
    measured = {
        what: f"{float(seconds):.0f} s" for seconds, what in re.findall(r"^ *([\d.]+)s  ([^,:]+),", times, re.M)
    }
    rows = dict.fromkeys(CELLS, 0)
    lines = page.split("\n")
    for number, line in enumerate(lines):
        for fault, cell in CELLS.items():
            if line.startswith(f"| {fault}"):
                rows[fault] += 1
                lines[number] = f"{line.rpartition(' | ')[0]} | {cell.format_map(measured)} |"
    if missing := [fault for fault, count in rows.items() if count != 1]:
        raise KeyError(f"not one row each: {missing}")
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(renew(PAGE.read_text(), TIMES.read_text()))
