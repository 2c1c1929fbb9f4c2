"""Writes the laptop's state folder: its lock, tokens, secrets and announced endpoints.

api/endpoints.py draws the folder and reads it for the other commands.
"""

import contextlib
import fcntl
import json
import os
import secrets
import socket
from dataclasses import asdict
from pathlib import Path

from services import dev_issuer, naming
from services.cli.api.endpoints import Endpoints, StateDir
from services.cli.errors import CommandError

COACH = "coach@laptop"


def create(folder: Path) -> StateDir:
    """Makes the folder, closed to other users. As root it is passable, because PostgreSQL's own user must pass it."""
    folder = folder.expanduser().resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
    except OSError as error:
        raise CommandError(f"The state folder {folder} cannot be used: {error.strerror}.") from None
    return StateDir(folder)


def lock(state: StateDir) -> int:
    """Locks the folder for this process and its forks; the kernel unlocks it when they have ended.

    Returns the lock's file descriptor. Raises CommandError if another process holds the lock.
    """
    descriptor = os.open(state.lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(descriptor, 20).decode().strip()
        raise CommandError(
            f"`crease up` already runs on {state.folder} (process {owner}): use it, stop it, or name another folder "
            "with --state."
        ) from None
    # A killed `crease up` leaves endpoints behind at which no service answers.
    state.client_file.unlink(missing_ok=True)
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor


def announce(state: StateDir, endpoints: Endpoints) -> None:
    """Writes client.json, by which the other commands find the services."""
    _write(state.client_file, json.dumps(asdict(endpoints) | {"up_pid": os.getppid()}, indent=2) + "\n")


def mint_tokens(state: StateDir) -> None:
    """Writes new tokens for the coach, the superuser, the internal service and the programs."""
    dev_issuer.create(state.issuer)
    (state.folder / "tokens").mkdir(exist_ok=True, mode=0o700)
    _write(state.token_file("coach"), dev_issuer.person(state.issuer, COACH))
    _write(state.token_file("admin"), dev_issuer.person(state.issuer, "admin@laptop", role=naming.SUPERUSER))
    _write(state.token_file("service"), dev_issuer.service(state.issuer))
    for program in ("upload", "controller"):
        _write(state.token_file(program), dev_issuer.program(state.issuer, program))


def page_port(state: StateDir, host: str) -> int:
    """The port of the page: the same at each start, because the browser keeps the page's data by its address."""
    folder = _page_folder(state)
    file = folder / "port"
    try:
        wanted = int(file.read_text())
    except (FileNotFoundError, ValueError):
        wanted = 0
    for port in (wanted, 0):
        with contextlib.suppress(OSError), socket.create_server((host, port)) as listener:
            chosen: int = listener.getsockname()[1]
            _write(file, f"{chosen}\n")
            return chosen
    raise CommandError("No port is free for the page.")


def mint_sign_in(state: StateDir, page: str) -> str:
    """A URL that signs one browser in, once; it replaces the last one."""
    key = secrets.token_urlsafe(24)
    _write(_page_folder(state) / naming.SIGN_IN_FILE, key)
    return f"{page}/sign-in?key={key}"


def page_folder(state: StateDir) -> Path:
    """The folder of the page, with the key that signs its cookies."""
    folder = _page_folder(state)
    file = folder / naming.COOKIE_KEY_FILE
    if not file.exists():
        _write(file, secrets.token_urlsafe(32))
    return folder


def _page_folder(state: StateDir) -> Path:
    folder = state.folder / naming.PAGE_FOLDER
    folder.mkdir(exist_ok=True, mode=0o700)
    return folder


def s3_secret(state: StateDir) -> str:
    """The secret key of the laptop's S3 server, made once."""
    file = state.folder / "s3" / "secret"
    file.parent.mkdir(exist_ok=True, mode=0o700)
    if not file.exists():
        _write(file, secrets.token_urlsafe(30))
    return file.read_text()


def _write(file: Path, text: str) -> None:
    # Replaced in one step: another process may read the file at any time.
    draft = file.with_name(file.name + ".new")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        out.write(text)
    draft.replace(file)
