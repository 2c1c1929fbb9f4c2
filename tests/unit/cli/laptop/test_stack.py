"""What each part of the laptop is told, and what it is not."""

from pathlib import Path

import pytest

from services.cli.errors import USAGE, Trouble
from services.cli.laptop import stack
from services.cli.laptop.stack import Store
from services.cli.laptop.state_dir import Laptop
from services.cli.laptop.supervisor import backoff_seconds, last_words

ACCESS = {"AWS_REGION": "r", "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s3-secret"}


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Each program's environment, as one text."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", "s3-secret")
    monkeypatch.setenv("PGPASSWORD", "db-secret")
    monkeypatch.setenv("CREASE_JOBS_ENDPOINT", "production:443")
    store = Store("http://127.0.0.1:9", "bucket", ACCESS)
    made = stack.programs(Laptop(tmp_path), "postgresql://db-secret", store, [1, 2, 3, 4, 5, 6])
    return {program.name: str(dict(program.environment)) for program in made}


def test_each_program_holds_one_power(told: dict[str, str]) -> None:
    """Only `jobs` can reach the database and only `upload` has the keys of S3, whatever the user's shell has."""
    assert [name for name, text in told.items() if "db-secret" in text] == ["jobs"]
    assert [name for name, text in told.items() if "s3-secret" in text] == ["upload"]


def test_the_users_own_cluster_is_never_meant(told: dict[str, str]) -> None:
    """A variable that names a cluster's services does not reach the laptop's programs."""
    assert not [name for name, text in told.items() if "production" in text]


def test_another_s3_server_needs_its_keys() -> None:
    """--s3-endpoint without keys names the missing ones, and with them takes region and bucket as given."""
    with pytest.raises(Trouble, match="AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY") as caught:
        stack.their_store("http://s3", {})
    assert caught.value.exit_code == USAGE
    store = stack.their_store("http://s3", {**ACCESS, "S3_COACH_VIDEOS_BUCKET": "mine"})
    assert (store.endpoint, store.bucket, store.access["AWS_REGION"]) == ("http://s3", "mine", "r")


def test_ports_differ() -> None:
    """No two programs are given the same port."""
    assert len(set(stack.free_ports(20))) == 20


def test_backoff_grows_and_is_bounded() -> None:
    """A program that dies at once is tried ever more slowly, but never given up."""
    waits = [backoff_seconds(deaths) for deaths in range(1, 2000)]
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (0.5, 30.0)


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("", ""),
        ("CREASE_ISSUERS: Field required\n\n", "CREASE_ISSUERS: Field required"),
        ('{"event": "rpc", "level": "info"}\n', ""),
        ('{"event": "no database", "level": "error"}\n', "no database"),
        ('{"event": "x", "level": "error", "exception": "Traceback\\nValueError: y"}\n', "ValueError: y"),
    ],
)
def test_of_a_dead_programs_log_the_user_reads_only_words(tmp_path: Path, log: str, words: str) -> None:
    """A line about an answered call explains nothing; the last line of a traceback does."""
    (tmp_path / "log").write_text(log)
    assert last_words(tmp_path / "log") == words
