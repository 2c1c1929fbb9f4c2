"""Metrics of the programs, read from the text that they expose to Prometheus."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import urllib3

from services.cli.errors import AWAY, Trouble

METRICS_SECONDS = 5.0
LINE = re.compile(r"^(crease_\w+)(?:\{(.*)\})? (\S+)")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Sample:
    name: str
    labels: Mapping[str, str]
    value: float
    # Which program said so.
    of: str


def read_metrics(endpoint: str) -> str:
    """What a program exposes at host:port. Raises Trouble."""
    try:
        reply = urllib3.request("GET", f"http://{endpoint}/metrics", timeout=METRICS_SECONDS, retries=False)
    except urllib3.exceptions.HTTPError as error:
        raise Trouble(f"No metrics at {endpoint}: {error}", AWAY) from None
    if reply.status != 200:
        raise Trouble(f"No metrics at {endpoint}: HTTP {reply.status}", AWAY)
    return reply.data.decode()


class Numbers:
    """All samples at once."""

    def __init__(self, exposed: Mapping[str, str]) -> None:
        self._samples = [sample for program, text in exposed.items() for sample in _parse(program, text)]

    def get(self, name: str, **labels: str) -> float | None:
        """The largest of a gauge; None where nobody exposes it. Two replicas may, for a moment, say the same."""
        return max((sample.value for sample in self._of(name, labels)), default=None)

    def by(self, label: str, name: str) -> dict[str, float]:
        """The largest of each value of a label."""
        found: dict[str, float] = {}
        for sample in self._of(name, {}):
            key = sample.labels.get(label, "")
            found[key] = max(sample.value, found.get(key, sample.value))
        return found

    def holders(self, name: str) -> list[str]:
        """The programs that say 1."""
        return [sample.of for sample in self._of(name, {}) if sample.value == 1]

    def _of(self, name: str, labels: Mapping[str, str]) -> Iterable[Sample]:
        return (one for one in self._samples if one.name == name and labels.items() <= one.labels.items())


def _parse(program: str, text: str) -> Iterable[Sample]:
    for line in text.splitlines():
        if found := LINE.match(line):
            yield Sample(found[1], dict(LABEL.findall(found[2] or "")), float(found[3]), program)
