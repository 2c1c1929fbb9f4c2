"""Writes the tables of docs/clients.md from the code: `python -m scripts.client_docs`. A test compares them."""

from collections.abc import Iterator
from pathlib import Path

from crease_client.reasons import ADVICE
from services.rules.failure_codes import FAILURE_CODES

PAGE = Path(__file__).parent.parent / "docs" / "clients.md"
# What a job's failure asks of a program. The advice for people names commands of `crease`.
FAULTS = {
    "input": "the video: the same video fails again",
    "ours": "Crease: report it with the job's id",
    "operator": "the installation: RetryJob after its repair",
    "disruption": "a disruption: RetryJob, or upload again where no video was verified",
}


def tables() -> dict[str, str]:
    """Each table by the name of its markers."""
    return {"reasons": "\n".join(_reasons()), "failure codes": "\n".join(_failure_codes())}


def page(text: str) -> str:
    """The page with its tables as the code has them."""
    for name, table in tables().items():
        begin, end = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
        before, _, rest = text.partition(begin)
        _, found, after = rest.partition(end)
        if not found:
            raise SystemExit(f"{PAGE} has no markers for {name}")
        text = before + begin + table + end + after
    return text


def _reasons() -> Iterator[str]:
    yield "| reason | what to do |\n|---|---|"
    for reason, advice in ADVICE.items():
        yield f"| `{reason}` | {advice} |"


def _failure_codes() -> Iterator[str]:
    yield "| failure code | what happened | at fault |\n|---|---|---|"
    for code, entry in FAILURE_CODES.items():
        yield f"| `{code}` | {entry.sentence} | {entry.fault} |"
    yield ""
    yield "| at fault | what to do |\n|---|---|"
    for fault, advice in FAULTS.items():
        yield f"| {fault} | {advice} |"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
