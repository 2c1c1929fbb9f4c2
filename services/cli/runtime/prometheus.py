"""Reads the programs' metrics from Prometheus's text format."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import urllib3

from services.cli.errors import UNAVAILABLE, CommandError

METRICS_SECONDS = 5.0
LINE = re.compile(r"^(crease_\w+)(?:\{(.*)\})? (\S+)")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Sample:
    """One value of one metric, as one program exposed it."""

    name: str
    labels: Mapping[str, str]
    value: float
    program: str


def fetch_metrics(endpoint: str) -> str:
    """The metrics page of a program at host:port. Raises CommandError."""
    try:
        reply = urllib3.request("GET", f"http://{endpoint}/metrics", timeout=METRICS_SECONDS, retries=False)
    except urllib3.exceptions.HTTPError as error:
        raise CommandError(f"No metrics at {endpoint}: {error}", UNAVAILABLE) from None
    if reply.status != 200:
        raise CommandError(f"No metrics at {endpoint}: HTTP {reply.status}", UNAVAILABLE)
    return reply.data.decode()


class Samples:
    """The samples of all programs. `pages`: the metrics page of each program, by its name."""

    def __init__(self, pages: Mapping[str, str]) -> None:
        self._samples = [sample for program, page in pages.items() for sample in _parse(program, page)]

    def get(self, name: str) -> float | None:
        """The largest value of a gauge, because two replicas may expose it; None if no program does."""
        return max((sample.value for sample in self._matching(name)), default=None)

    def by_label(self, label: str, name: str) -> dict[str, float]:
        """The largest value of a gauge for each value of a label."""
        found: dict[str, float] = {}
        for sample in self._matching(name):
            key = sample.labels.get(label, "")
            found[key] = max(sample.value, found.get(key, sample.value))
        return found

    def by_program(self, name: str) -> dict[str, float]:
        """The value of a gauge that each program exposes once."""
        return {sample.program: sample.value for sample in self._matching(name)}

    def programs_at_one(self, name: str) -> list[str]:
        """The programs that expose 1 for a gauge."""
        return [sample.program for sample in self._matching(name) if sample.value == 1]

    def _matching(self, name: str) -> Iterable[Sample]:
        return (sample for sample in self._samples if sample.name == name)


def _parse(program: str, page: str) -> Iterable[Sample]:
    for line in page.splitlines():
        if found := LINE.match(line):
            yield Sample(found[1], dict(LABEL.findall(found[2] or "")), float(found[3]), program)
