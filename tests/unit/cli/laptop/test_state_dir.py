"""The state folder: who may run on it, and how the other commands find what runs."""

import json
import os
from pathlib import Path

import jwt
import pytest

from services.cli.api import client
from services.cli.errors import AWAY, Trouble
from services.cli.laptop import state_dir
from services.cli.laptop.state_dir import Client, Laptop

CLIENT = Client("127.0.0.1:1", "127.0.0.1:2", "/token", 10, "/state")


@pytest.fixture
def here(tmp_path: Path) -> Laptop:
    return state_dir.create(tmp_path / "state")


def test_one_up_a_folder(here: Laptop) -> None:
    """A second claim is refused in a sentence that names the first; the folder is free again when the first is gone."""
    lock = state_dir.claim(here)
    assert state_dir.is_up(here)
    with pytest.raises(Trouble, match=rf"already runs on .* \(process {os.getpid()}\)"):
        state_dir.claim(here)
    os.close(lock)
    assert not state_dir.is_up(here)


def test_without_up_there_is_one_sentence(here: Laptop) -> None:
    """What a killed `up` left behind leads nobody to services that don't answer."""
    state_dir.announce(here, CLIENT)
    with pytest.raises(Trouble, match="start it with `crease up`") as caught:
        state_dir.find(here)
    assert caught.value.exit_code == AWAY


def test_what_up_announced_is_found_by_the_others(here: Laptop) -> None:
    """client.json says all that a client needs, and which process it is from."""
    lock = state_dir.claim(here)
    with pytest.raises(Trouble, match="still starting"):
        state_dir.find(here)
    state_dir.announce(here, CLIENT)
    assert state_dir.find(here) == CLIENT
    assert json.loads(here.client_file.read_text())["up_pid"] == os.getppid()
    os.close(lock)


def test_a_cluster_is_named_by_the_environment(here: Laptop) -> None:
    """All three variables or none: half a cluster is a mistake, and the missing half is named."""
    named = {"CREASE_JOBS_ENDPOINT": "a:1", "CREASE_UPLOAD_ENDPOINT": "b:2", "CREASE_TOKEN_FILE": "t"}
    assert client.find(named, here.folder) == Client("a:1", "b:2", "t")
    with pytest.raises(Trouble, match="CREASE_TOKEN_FILE must be set"):
        client.find({**named, "CREASE_TOKEN_FILE": ""}, here.folder)


def test_secrets_are_for_their_owner_alone(here: Laptop) -> None:
    """Tokens, keys and the S3 secret can be read by nobody else, and the secret stays the same."""
    state_dir.mint_tokens(here)
    assert state_dir.s3_secret(here) == state_dir.s3_secret(here) != ""
    secret = [
        here.token_file("coach"),
        here.token_file("upload"),
        here.issuer / "key.pem",
        here.folder / "s3" / "secret",
    ]
    assert {path.stat().st_mode & 0o077 for path in secret} == {0}


def test_the_coach_may_upload(here: Laptop) -> None:
    """The laptop's own user has the role and the feature that uploading takes."""
    state_dir.mint_tokens(here)
    claims = jwt.decode(here.token_file("coach").read_text(), options={"verify_signature": False})
    assert (claims["role"], claims["features"]) == ("coach_pro_plus", ["video_upload_enabled"])
