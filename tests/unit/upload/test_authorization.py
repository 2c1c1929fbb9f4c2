"""Authorization and settings of upload."""

import pytest

from services import errors
from services.auth import Caller, Lease, Person, Pod, Program, Service, Share
from services.authorization import Authorizer
from services.upload import authorization
from services.upload.__main__ import SERVICES
from services.upload.settings import UploadSettings

PERSON, LEASE, SHARE = Person("coach-1", "coach_pro_plus"), Lease("secret"), Share("secret")
READER, WRITER = Service("reader", frozenset({"read"})), Service("writer", frozenset({"read", "write"}))
PROGRAMS: list[Caller] = [Program("upload"), Program("controller"), Pod("pod-1", "uid", "default")]
CALLERS: list[Caller] = [PERSON, LEASE, SHARE, READER, WRITER, Service("listener", frozenset({"events"})), *PROGRAMS]
# By RPC; the others admit people and services that write.
ALLOWED: dict[str, list[Caller]] = {
    "SignLaunch": [LEASE],
    "ReadShare": [SHARE],
    "ListOrphans": [PERSON],
    "GetUploadLimits": [PERSON, READER, WRITER],
    "SignDownload": [PERSON, READER, WRITER],
}
RIGHTS = Authorizer(authorization.TABLE, SERVICES)
RPCS = [f"/{service.full_name}/{method.name}" for service in SERVICES for method in service.methods]


@pytest.mark.parametrize("name", RPCS)
def test_each_rpc_is_for_the_callers_that_need_it(name: str) -> None:
    """All RPCs admit people and services that write, except those of ALLOWED."""
    allowed: list[Caller] = ALLOWED.get(name.rpartition("/")[2], [PERSON, WRITER])
    for caller in CALLERS:
        if caller in allowed:
            RIGHTS(name, caller)
        else:
            with pytest.raises(errors.PermissionDenied):
                RIGHTS(name, caller)
    with pytest.raises(errors.Unauthenticated):
        RIGHTS(name, None)


def test_an_rpc_without_a_row_stops_the_server() -> None:
    """A new RPC cannot be served without its row."""
    fewer = {name: kinds for name, kinds in authorization.TABLE.items() if not name.endswith("/SignLaunch")}
    with pytest.raises(SystemExit, match="SignLaunch"):
        Authorizer(fewer, SERVICES)


NEEDED = {
    "CREASE_ISSUERS": "[]",
    "AWS_REGION": "eu-west-1",
    "S3_COACH_VIDEOS_BUCKET": "videos",
    "CREASE_JOBS_ENDPOINT": "jobs:50051",
    "CREASE_TOKEN_FILE": "/var/run/token",
}


@pytest.fixture
def settings_env(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in NEEDED.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.mark.parametrize("name", NEEDED)
def test_a_missing_setting_stops_the_program_and_names_itself(
    settings_env: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """Operators read one line, by the name they set."""
    settings_env.delenv(name)
    with pytest.raises(SystemExit):
        UploadSettings.load()
    assert capsys.readouterr().err.startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("S3_UPLOAD_URL_EXPIRES_SECONDS", "0"),
        ("S3_UPLOAD_URL_EXPIRES_SECONDS", "604801"),
        ("CREASE_S3_ENDPOINT", "minio:9000"),
        ("CREASE_MAX_CONTENT_LENGTH", "680000000000"),
    ],
)
def test_a_wrong_setting_names_itself(
    settings_env: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    """A value that S3 would refuse stops the program."""
    settings_env.setenv(name, value)
    with pytest.raises(SystemExit):
        UploadSettings.load()
    assert capsys.readouterr().err.startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("endpoint", "path_style", "style"),
    [
        ("", None, "virtual"),
        ("http://127.0.0.1:9000", None, "path"),
        ("https://s3.example", "false", "virtual"),
        ("", "true", "path"),
    ],
)
def test_other_servers_than_aws_are_addressed_by_path(
    settings_env: pytest.MonkeyPatch, endpoint: str, path_style: str | None, style: str
) -> None:
    """By default: most of them have no host name per bucket."""
    settings_env.setenv("CREASE_S3_ENDPOINT", endpoint)
    if path_style is not None:
        settings_env.setenv("CREASE_S3_PATH_STYLE", path_style)
    assert UploadSettings.load().addressing_style == style
