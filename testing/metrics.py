"""Reads the metrics of a program as Prometheus does."""

import urllib.request
from collections.abc import Mapping
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(port: int) -> Series:
    """All series, keyed by name and labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply:
        text = reply.read().decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(series: Series, name: str, **labels: Any) -> float | None:
    """The value of one series; None if no series has this name and these labels."""
    return series.get((name, frozenset(labels.items())))


def names(series: Series) -> set[str]:
    """The names of Crease's metrics."""
    return {name for name, _ in series if name.startswith("crease_")}


def labels_of(series: Series, name: str, label: str) -> dict[str, float]:
    """The values of a metric, keyed by one of its labels."""
    return {dict(labels)[label]: value for (found, labels), value in series.items() if found == name}


def listening(port: int) -> Mapping[str, str]:
    return {"CREASE_METRICS_LISTEN": f"127.0.0.1:{port}"}
