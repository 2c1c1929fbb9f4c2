"""The settings of each program of the laptop."""

import socket
from pathlib import Path

import pytest

from services.cli.api.endpoints import StateDir
from services.cli.errors import USAGE, CommandError
from services.cli.laptop import stack
from services.cli.laptop.stack import S3Access
from services.cli.laptop.supervisor import backoff_seconds, last_message

ACCESS = {"AWS_REGION": "r", "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s3-secret"}


@pytest.fixture
def environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Each program's environment, as one text."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", "s3-secret")
    monkeypatch.setenv("PGPASSWORD", "db-secret")
    monkeypatch.setenv("CREASE_JOBS_ENDPOINT", "production:443")
    monkeypatch.setenv("CREASE_OTLP_ENDPOINT", "http://127.0.0.1:4317")
    store = S3Access("http://127.0.0.1:9", "bucket", ACCESS)
    made = stack.programs(StateDir(tmp_path), "postgresql://db-secret", store, [1, 2, 3, 4, 5, 6])
    return {program.name: str(dict(program.environment)) for program in made}


def test_each_program_holds_one_power(environments: dict[str, str]) -> None:
    """Only `jobs` reaches the database and only `upload` has the S3 keys, whatever variables the user's shell has."""
    assert [name for name, text in environments.items() if "db-secret" in text] == ["jobs"]
    assert [name for name, text in environments.items() if "s3-secret" in text] == ["upload"]


def test_the_users_own_cluster_is_never_called(environments: dict[str, str]) -> None:
    """The variables of a cluster's services do not reach the laptop's programs."""
    assert not [name for name, text in environments.items() if "production" in text]


def test_every_program_sends_its_traces_to_the_users_collector(environments: dict[str, str]) -> None:
    """The collector's endpoint is the only one that they keep."""
    assert all("'CREASE_OTLP_ENDPOINT': 'http://127.0.0.1:4317'" in text for text in environments.values())


def test_another_s3_server_needs_its_keys() -> None:
    """--s3-endpoint without keys names the missing ones, and with them takes region and bucket as given."""
    with pytest.raises(CommandError, match="AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY") as caught:
        stack.external_s3("http://s3", {})
    assert caught.value.exit_code == USAGE
    store = stack.external_s3("http://s3", {**ACCESS, "S3_COACH_VIDEOS_BUCKET": "mine"})
    assert (store.endpoint, store.bucket, store.variables["AWS_REGION"]) == ("http://s3", "mine", "r")


def test_ports_differ() -> None:
    """No two programs get the same port."""
    assert len(set(stack.free_ports(20))) == 20


def test_a_port_that_is_taken_is_replaced() -> None:
    """The others stay as documented; base 0 asks for none."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        base = taken.getsockname()[1]
        first, *rest = stack.fixed_ports(base, 3)
        assert first not in (base, *rest)
        assert 0 < first < 65536
    assert len(set(stack.fixed_ports(0, 6))) == 6
    assert stack.fixed_ports(65535, 2)[1] < 65536


def test_backoff_grows_and_is_bounded() -> None:
    """A program that dies at once is restarted ever more slowly, but always again."""
    waits = [backoff_seconds(deaths) for deaths in range(1, 2000)]
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (0.5, 30.0)


@pytest.mark.parametrize(
    ("log", "message"),
    [
        ("", ""),
        ("CREASE_ISSUERS: Field required\n\n", "CREASE_ISSUERS: Field required"),
        ("x FATAL:  No space left on device\nchild exited\nremoving data\n", "x FATAL:  No space left on device"),
        ('{"event": "rpc", "level": "info"}\n', ""),
        ('{"event": "no database", "level": "error"}\n', "no database"),
        ('{"event": "x", "level": "error", "exception": "Traceback\\nValueError: y"}\n', "ValueError: y"),
    ],
)
def test_the_last_message_of_a_log_is_one_for_people(tmp_path: Path, log: str, message: str) -> None:
    """A line about an answered call is skipped; the last line of a traceback is used."""
    (tmp_path / "log").write_text(log)
    assert last_message(tmp_path / "log") == message
