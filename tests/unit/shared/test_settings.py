"""Missing and wrong settings."""

from typing import Any

import pytest
from pydantic import ValidationError

from services.controller import settings as controller
from services.jobs.settings import JobsSettings
from services.settings import Issuer

ENOUGH = {"CREASE_DATABASE_URL": "postgresql://u:p@h/d", "CREASE_ISSUERS": "[]"}


@pytest.mark.parametrize(
    ("env", "culprit"),
    [
        ({"CREASE_DATABASE_URL": None}, "CREASE_DATABASE_URL"),
        ({"CREASE_ISSUERS": None}, "CREASE_ISSUERS"),
        ({"CREASE_LEASE_SECONDS": "soon"}, "CREASE_LEASE_SECONDS"),
        ({"COACH_PLUS_DEEP_ANALYSIS_ENABLED": "maybe"}, "COACH_PLUS_DEEP_ANALYSIS_ENABLED"),
        ({"CREASE_ISSUERS": '[{"kind": "people"}]'}, "CREASE_ISSUERS"),
        ({"CREASE_ISSUERS": "[{"}, "CREASE_ISSUERS"),
    ],
)
def test_a_wrong_setting_stops_the_program_and_names_itself(
    env: dict[str, str | None], culprit: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 78, a line for the culprit, no traceback."""
    for name, value in (ENOUGH | env).items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as stopped:
        JobsSettings.load()
    assert stopped.value.code == 78
    assert capsys.readouterr().err.startswith(culprit + ":")


def test_the_controller_reads_the_issuers_that_every_program_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """A laptop gives all its programs the same settings."""
    given = {
        "CREASE_ISSUERS": '[{"kind": "people", "issuer": "i", "jwks_url": "file:///keys"}]',
        "CREASE_JOBS_ENDPOINT": "localhost:1",
        "CREASE_UPLOAD_ENDPOINT": "localhost:2",
        "CREASE_TOKEN_FILE": "/token",
        "CREASE_STATE_FOLDER": "/state",
        "CREASE_ISSUER_FOLDER": "/issuer",
        "CREASE_ANALYZER_COMMAND": '["analyzer", "--quick"]',
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = controller.load()
    assert [issuer.issuer for issuer in settings.issuers] == ["i"]
    assert settings.analyzer_command == ("analyzer", "--quick")


def test_secrets_hide_in_the_settings_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log of the settings shows no password."""
    for name, value in ENOUGH.items():
        monkeypatch.setenv(name, value)
    assert "u:p@h" not in repr(JobsSettings.load())


GRANT = {"name": "statistics", "may": ["read"], "owners": ["*"]}


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"services": {"s": GRANT | {"may": ["write"]}}}, "a service that may write must be able to read"),
        ({"services": {"s": GRANT | {"may": []}}}, "at least 1 item"),
        ({"services": {"s": GRANT | {"may": ["everything"]}}}, "'read', 'write' or 'events'"),
        ({"services": {"s": GRANT | {"owners": []}}}, "at least 1 item"),
        ({"services": {"s": GRANT | {"owners": ["c-1"]}}}, "pattern"),
        ({"services": {"s": GRANT | {"name": "Statistics for all"}}}, "pattern"),
        ({"kind": "people", "services": {"s": GRANT}}, "an issuer of people has no services"),
        ({"services": {"s": GRANT}, "subjects": {"s": "upload"}}, "s cannot be a service and a program of Crease"),
    ],
)
def test_an_odd_grant_of_a_service_is_refused(changed: dict[str, Any], sentence: str) -> None:
    """The sentence says what is wrong."""
    entry = {"kind": "service", "issuer": "i", "jwks_url": "file:///keys", "services": {"s": GRANT}}
    assert Issuer.model_validate(entry).services["s"].name == "statistics"
    with pytest.raises(ValidationError, match=sentence):
        Issuer.model_validate(entry | changed)
