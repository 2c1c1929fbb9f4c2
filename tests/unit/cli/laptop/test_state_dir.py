"""The state folder: its lock, and the endpoints that other commands read from it."""

import json
import os
from pathlib import Path

import jwt
import pytest

from services.cli.api import endpoints
from services.cli.api.endpoints import Endpoints, StateDir
from services.cli.errors import UNAVAILABLE, CommandError
from services.cli.laptop import state_dir

ANNOUNCED = Endpoints("127.0.0.1:1", "127.0.0.1:2", "/token", 10, "/state")


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return state_dir.create(tmp_path / "state")


def test_one_up_per_folder(state: StateDir) -> None:
    """A second lock fails with a sentence that names the first process, and succeeds after the first has ended."""
    lock = state_dir.lock(state)
    assert endpoints.is_up(state)
    with pytest.raises(CommandError, match=rf"already runs on .* \(process {os.getpid()}\)"):
        state_dir.lock(state)
    os.close(lock)
    assert not endpoints.is_up(state)


def test_without_up_the_error_names_the_command(state: StateDir) -> None:
    """The client ignores the endpoints that a killed `crease up` left behind."""
    state_dir.announce(state, ANNOUNCED)
    with pytest.raises(CommandError, match="start it with `crease up`") as caught:
        endpoints.read_announced(state)
    assert caught.value.exit_code == UNAVAILABLE


def test_other_commands_find_the_announced_endpoints(state: StateDir) -> None:
    """client.json has everything that a client needs, and the process id of `crease up`."""
    lock = state_dir.lock(state)
    with pytest.raises(CommandError, match="still starting"):
        endpoints.read_announced(state)
    state_dir.announce(state, ANNOUNCED)
    assert endpoints.read_announced(state) == ANNOUNCED
    assert json.loads(state.client_file.read_text())["up_pid"] == os.getppid()
    os.close(lock)


def test_a_cluster_is_named_by_the_environment(state: StateDir) -> None:
    """All three variables or none; the error names the missing ones."""
    named = {"CREASE_JOBS_ENDPOINT": "a:1", "CREASE_UPLOAD_ENDPOINT": "b:2", "CREASE_TOKEN_FILE": "t"}
    assert endpoints.find(named, state.folder) == Endpoints("a:1", "b:2", "t")
    with pytest.raises(CommandError, match="set CREASE_TOKEN_FILE too"):
        endpoints.find({**named, "CREASE_TOKEN_FILE": ""}, state.folder)


def test_only_their_owner_reads_the_secrets(state: StateDir) -> None:
    """No other user can read tokens, keys and the S3 secret, and the secret stays the same."""
    state_dir.mint_tokens(state)
    assert state_dir.s3_secret(state) == state_dir.s3_secret(state) != ""
    secret = [
        state.token_file("coach"),
        state.token_file("upload"),
        state.issuer / "key.pem",
        state.folder / "s3" / "secret",
    ]
    assert {path.stat().st_mode & 0o077 for path in secret} == {0}


def test_the_coach_may_upload(state: StateDir) -> None:
    """The laptop's coach has the role and the feature that an upload needs."""
    state_dir.mint_tokens(state)
    claims = jwt.decode(state.token_file("coach").read_text(), options={"verify_signature": False})
    assert (claims["role"], claims["features"]) == ("coach_pro_plus", ["video_upload_enabled"])
