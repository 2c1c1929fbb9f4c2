"""What a program of ours tells Prometheus, read as Prometheus reads it."""

import urllib.request
from collections.abc import Mapping
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(port: int) -> Series:
    """Every series by its name and labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply:
        text = reply.read().decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(series: Series, name: str, **labels: Any) -> float | None:
    """One of them; None where there is none of that name with these labels."""
    return series.get((name, frozenset(labels.items())))


def names(series: Series) -> set[str]:
    """Those of Crease."""
    return {name for name, _ in series if name.startswith("crease_")}


def labels_of(series: Series, name: str, label: str) -> dict[str, float]:
    """The values of a metric by one of its labels."""
    return {dict(labels)[label]: value for (found, labels), value in series.items() if found == name}


def listening(port: int) -> Mapping[str, str]:
    return {"CREASE_METRICS_LISTEN": f"127.0.0.1:{port}"}
