"""A real Prometheus with the real rules, sped up: a minute in the rules is a second here."""

import json
import re
import shutil
import signal
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from testing.servers.programs import free_port
from tests.alerts.rules import RULES

FASTER = 60
SCRAPE = "500ms"
READY_SECONDS = 60.0
SECONDS_OF = {"s": 1, "m": 60, "h": 3600}
# Thresholds in seconds are divided too. Not those of the controller's cache and of the clock skew, which run in real
# time here.
AGES = re.compile(r"((?<!view_age)(?<!clock_skew)_seconds(?:\{[^}]*\})?\)+ > )(\d+)")


def hastened(text: str) -> str:
    """The rules with every duration and every age threshold divided by FASTER."""
    rules = yaml.safe_load(text)
    for group in rules["groups"]:
        group["interval"] = SCRAPE
        for rule in group["rules"]:
            rule["expr"] = AGES.sub(lambda found: f"{found[1]}{int(found[2]) / FASTER:g}", _hasten(rule["expr"]))
            if "for" in rule:
                rule["for"] = _shorter(rule["for"][:-1], rule["for"][-1])
    return yaml.safe_dump(rules)


def _hasten(expression: str) -> str:
    expression = re.sub(r"\[(\d+)([smh])\]", lambda found: f"[{_shorter(found[1], found[2])}]", expression)
    return re.sub(r"offset (\d+)([smh])", lambda found: f"offset {_shorter(found[1], found[2])}", expression)


def _shorter(number: str, unit: str) -> str:
    return f"{int(number) * SECONDS_OF[unit] * 1000 // FASTER}ms"


@dataclass(frozen=True)
class Prometheus:
    port: int

    def firing(self) -> dict[str, str]:
        """The summary of each firing alert, by name."""
        alerts = self._query("alerts")["alerts"]
        return {one["labels"]["alertname"]: one["annotations"]["summary"] for one in alerts if one["state"] == "firing"}

    def broken(self) -> list[str]:
        """Rules that Prometheus could not evaluate, with the error."""
        rules = [rule for group in self._query("rules")["groups"] for rule in group["rules"]]
        return [f"{rule['name']}: {rule['lastError']}" for rule in rules if rule["health"] == "err"]

    def values(self, query: str) -> list[tuple[dict[str, str], float]]:
        """The current result of a dashboard query: labels and value of each series."""
        query = urllib.parse.quote(_hasten(query.replace("$namespace", ".*")))
        found = self._query(f"query?query={query}")["result"]
        return [(one["metric"], float(one["value"][1])) for one in found]

    def scraped(self) -> bool:
        """Whether Prometheus has scraped every program."""
        targets = self._query("targets")["activeTargets"]
        return bool(targets) and all(one["health"] == "up" for one in targets)

    def _query(self, what: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/{what}", timeout=10) as reply:
            return json.load(reply)["data"]


@contextmanager
def prometheus(folder: Path, targets: Mapping[str, int]) -> Iterator[Prometheus]:
    """A Prometheus that scrapes the metrics ports of the named programs until the block ends."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is missing; as root: apt-get install prometheus")
    folder.mkdir()
    (folder / "rules.yaml").write_text(hastened(RULES.read_text()))
    jobs = [
        {
            "job_name": name,
            "static_configs": [{"targets": [f"127.0.0.1:{port}"], "labels": {"namespace": "nets", "pod": name}}],
        }
        for name, port in targets.items()
    ]
    config = {
        "global": {"scrape_interval": SCRAPE, "scrape_timeout": SCRAPE, "evaluation_interval": SCRAPE},
        "rule_files": [str(folder / "rules.yaml")],
        "scrape_configs": jobs,
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    port = free_port()
    command = [program, f"--config.file={folder / 'prometheus.yaml'}", f"--storage.tsdb.path={folder / 'data'}",
               f"--web.listen-address=127.0.0.1:{port}"]  # fmt: skip
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait_until_ready(process, port, folder / "log")
        yield Prometheus(port)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


def _wait_until_ready(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    give_up = time.monotonic() + READY_SECONDS
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < give_up, log.read_text()
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=2).close()
            return
        except OSError:
            time.sleep(0.1)
