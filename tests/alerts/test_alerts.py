"""Each alert fires at its threshold, not before, and links to its page."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from testing.servers.programs import ROOT
from tests.alerts.rules import CASES, RULES, promtool_test, rules


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is missing; as root: apt-get install prometheus")
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("alert", rules())
def test_an_alert_fires_when_it_should_and_not_before(alert: str, tmp_path: Path) -> None:
    """One series fires the alert with its summary; the nearest healthy series does not."""
    file = tmp_path / "test.yaml"
    file.write_text(yaml.safe_dump(promtool_test(alert)))
    ended = promtool("test", "rules", str(file))
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.slow
def test_promtool_rejects_a_wrong_expectation(tmp_path: Path) -> None:
    """Proves that the test above can fail."""
    wrong = promtool_test("CreaseBacklog")
    wrong["tests"][0]["alert_rule_test"][0]["exp_alerts"] = []
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(wrong))
    assert promtool("test", "rules", str(tmp_path / "test.yaml")).returncode != 0


@pytest.mark.slow
def test_prometheus_accepts_the_rules() -> None:
    """`promtool check rules` passes."""
    assert promtool("check", "rules", str(RULES)).returncode == 0


def test_each_alert_has_a_case_a_severity_a_sentence_and_a_page() -> None:
    """docs/operating.md has a page of the alert's name."""
    assert CASES.keys() == rules().keys()
    pages = {line.removeprefix("### ").lower() for line in (ROOT / "docs/operating.md").read_text().splitlines()
             if line.startswith("### ")}  # fmt: skip
    for name, rule in rules().items():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["runbook_url"] == f"docs/operating.md#{name.lower()}"
        assert name.lower() in pages


@pytest.mark.parametrize("alert", rules())
def test_every_page_has_the_same_shape(alert: str) -> None:
    """What the alert means, its likely causes, where to look, and the repair, in this order."""
    page = (ROOT / "docs/operating.md").read_text().partition(f"\n### {alert}\n")[2].partition("\n#")[0]
    assert re.findall(r"^- \*\*(.+?):\*\*", page, re.MULTILINE) == ["What it means", "Likely causes", "Look", "Repair"]


@pytest.mark.parametrize(
    ("alert", "part"),
    [
        ("CreaseUploadsStuck", "overdue) > 5"),
        ("CreaseFailures", "hour) > 10"),
        ("CreaseBacklog", "> 10"),
        ("CreaseBacklogLarge", "> 50"),
        ("CreaseOldestQueued", "> 600"),
    ],
)
def test_the_thresholds_are_those_that_operators_were_promised(alert: str, part: str) -> None:
    """The thresholds of uploads, failures, backlog and oldest queued job."""
    assert part in rules()[alert]["expr"]
