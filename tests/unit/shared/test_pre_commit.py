""".pre-commit-config.yaml runs the commands of `make lint`."""

import re

import yaml

from tests.chart.chart import ROOT


def lint_commands() -> list[str]:
    """The recipe of the target `lint`, as one command per check."""
    recipe = (ROOT / "Makefile").read_text().partition("\nlint: ")[2].partition("\n\n")[0].splitlines()[1:]
    plain = [line.strip().replace("$(VENV)", ".venv").replace("$(MAKE)", "make") for line in recipe]
    return [*plain[:-3], " && ".join(plain[-3:])]


def test_the_hooks_run_the_commands_of_make_lint() -> None:
    """One hook for each command, in the same order."""
    [repository] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    entries = [re.sub(r"^bash -c '(.*)'$", r"\1", hook["entry"]) for hook in repository["hooks"]]
    assert entries == lint_commands()
    assert {hook["language"] for hook in repository["hooks"]} == {"system"}
