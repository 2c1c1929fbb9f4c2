"""docs/settings.md agrees with the classes of settings, the modules that read the environment, and the chart."""

import re

import pytest

from scripts import settings_docs
from services.cli.api import endpoints
from services.settings import Settings
from testing.servers.programs import ROOT

DOCUMENTED = {*re.findall(r"^\| `(\w+)` \|", settings_docs.PAGE.read_text(), re.MULTILINE)}


def test_the_settings_page_says_what_the_code_and_the_chart_say() -> None:
    """If this fails, run `make settings` and review the change."""
    assert settings_docs.PAGE.read_text() == settings_docs.page()


@pytest.mark.parametrize("program", settings_docs.PROGRAMS)
def test_every_setting_of_a_program_has_a_meaning_and_is_on_the_page(program: str) -> None:
    """A comment above the field is all it takes."""
    variables = settings_docs.variables(settings_docs.PROGRAMS[program])
    assert [variable.name for variable in variables if not variable.meaning] == []
    assert {variable.name for variable in variables} <= DOCUMENTED


def test_every_class_of_settings_belongs_to_a_program() -> None:
    """A new class without a section would be on no page."""
    known = {one for kind in settings_docs.PROGRAMS.values() for one in kind.__mro__}
    assert {kind for kind in _subclasses(Settings) if kind.__module__.startswith("services.")} <= known


def test_every_variable_that_a_module_reads_by_itself_is_on_the_page() -> None:
    """Beside the classes of settings there are few: each has its row."""
    read = {name for name, _ in settings_docs.read_directly()} | {*endpoints.VARIABLES}
    assert {"CREASE_DEBUG", "XDG_STATE_HOME"} <= read
    assert read <= {name for name, *_ in settings_docs.OTHERS}


def test_every_variable_that_the_chart_sets_is_on_the_page() -> None:
    """A name that the chart misspells would set nothing."""
    templates = "".join(file.read_text() for file in (ROOT / "deploy" / "helm" / "crease" / "templates").rglob("*.*"))
    written = {*re.findall(r"- \{?name: ([A-Z][A-Z0-9_]+)", templates)}
    assert "CREASE_DATABASE_URL" in written
    assert written <= DOCUMENTED


def test_a_variable_is_traced_to_its_keys_in_the_values() -> None:
    """Directly, by a definition that the template includes, and by the condition under which the template sets it."""
    assert settings_docs.chart_value("CREASE_CAPACITY", "controller (kubernetes)") == "`analyzer.capacity`"
    assert settings_docs.chart_value("CREASE_S3_ENDPOINT", "upload") == "`s3.endpoint`"
    assert settings_docs.chart_value("CREASE_TLS_KEY", "jobs") == "`tls.secret`"
    assert settings_docs.chart_value("CREASE_LOG_LEVEL", "jobs") == "`jobs.extraEnv`"
    assert settings_docs.chart_value("CREASE_TOKEN_FILE", "analyzer (pod)") == "*controller*"


def _subclasses(kind: type[Settings]) -> set[type[Settings]]:
    return {kind}.union(*(_subclasses(one) for one in kind.__subclasses__()))
