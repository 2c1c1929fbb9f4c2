"""The dashboard `Video processing`: written by scripts/dashboard.py, in queries that Prometheus understands."""

from pathlib import Path

import pytest
import yaml

from scripts import dashboard
from tests.alerts.rules import METRIC, rules
from tests.alerts.test_alerts import promtool


def test_the_file_is_what_its_script_writes() -> None:
    """`python -m scripts.dashboard` writes it."""
    assert dashboard.FILE.read_text() == dashboard.text()


def test_its_panels_do_not_cover_one_another() -> None:
    """Nor do they stick out."""
    taken: set[tuple[int, int]] = set()
    for panel in dashboard.dashboard()["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= dashboard.WIDTH
        taken |= cells


@pytest.mark.slow
def test_prometheus_takes_every_query(tmp_path: Path) -> None:
    """As the expression of a rule."""
    asked = [
        {"record": f"panel:{number}", "expr": query.replace("$namespace", ".*")}
        for number, query in enumerate(dashboard.queries())
    ]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": asked}]}))
    ended = promtool("check", "rules", str(file))
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_whatever_wakes_somebody_can_be_looked_at() -> None:
    """Each metric of an alert is on the dashboard."""
    shown = {_base(name) for query in dashboard.queries() for name in METRIC.findall(query)}
    waking = {_base(name) for rule in rules().values() for name in METRIC.findall(rule["expr"])}
    assert waking <= shown


def _base(name: str) -> str:
    """A histogram is one metric."""
    return name.removesuffix("_bucket").removesuffix("_count")
