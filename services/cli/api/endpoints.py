"""Finds the services: by the environment, or by the state folder that a running `crease up` holds.

This is the reading side of the state folder, which every command needs. laptop/state_dir.py writes it.

STATE/
├── lock           locked while `crease up` runs on this folder; contains its process id
├── client.json    the endpoints, while the services are ready
├── issuer/        the key pair of the laptop's token issuer
├── tokens/        coach, admin, service, upload, controller
├── uploads/       state of incomplete uploads
├── page/          the port, the key of cookies, the key of the next sign-in
├── postgres/  s3/  controller/
└── logs/          one file per program
"""

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from services.cli.errors import UNAVAILABLE, USAGE, CommandError

# The variables that name the services of a cluster.
VARIABLES = {
    "CREASE_JOBS_ENDPOINT": "jobs_endpoint",
    "CREASE_UPLOAD_ENDPOINT": "upload_endpoint",
    "CREASE_TOKEN_FILE": "token_file",
}


@dataclass(frozen=True)
class Endpoints:
    """Where the services answer and which token to send; the content of client.json."""

    jobs_endpoint: str
    upload_endpoint: str
    token_file: str
    # The largest video, in bytes, that the laptop's S3 server accepts; 0: no limit on the client's side.
    largest_video_bytes: int = 0
    # The state folder of `crease up`; empty for a cluster.
    state_folder: str = ""
    # The metrics endpoint of each program on the laptop, by the program's name.
    metrics: Mapping[str, str] = field(default_factory=dict)
    # The address of the page on a laptop, such as http://127.0.0.1:41234; empty: none.
    page: str = ""


@dataclass(frozen=True)
class StateDir:
    """The paths inside a state folder."""

    folder: Path

    @property
    def issuer(self) -> Path:
        return self.folder / "issuer"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def lock(self) -> Path:
        return self.folder / "lock"

    @property
    def client_file(self) -> Path:
        return self.folder / "client.json"

    def token_file(self, owner: str) -> Path:
        return self.folder / "tokens" / owner


def default_folder() -> Path:
    """$XDG_STATE_HOME/crease, by the XDG Base Directory Specification."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "crease"


def is_up(state: StateDir) -> bool:
    """Whether a `crease up` holds the folder. Reads the lock, not the process id, which the system uses again.

    Raises CommandError if the folder is a file, or closed to this user.
    """
    try:
        with state.lock.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError as error:
        raise CommandError(f"The state folder {state.folder} cannot be used: {error.strerror}.", USAGE) from None
    return False


def read_announced(state: StateDir) -> Endpoints:
    """The endpoints that a running `crease up` announced in client.json. Raises CommandError."""
    if not is_up(state):
        raise CommandError("Crease is not running here: start it with `crease up`, in another terminal.", UNAVAILABLE)
    try:
        content = json.loads(state.client_file.read_text())
    except FileNotFoundError:
        raise CommandError("`crease up` is still starting: try again when it prints ready.", UNAVAILABLE) from None
    except (OSError, ValueError) as error:
        raise CommandError(f"{state.client_file} cannot be read: {error}", UNAVAILABLE) from None
    return Endpoints(**{name: content[name] for name in Endpoints.__dataclass_fields__})


def find(environment: Mapping[str, str], folder: Path) -> Endpoints:
    """The services that the environment names, else those of the `crease up` on this folder. Raises CommandError."""
    named = {field: environment[name] for name, field in VARIABLES.items() if environment.get(name)}
    if not named:
        return read_announced(StateDir(folder.expanduser().resolve()))
    if missing := [name for name, field in VARIABLES.items() if field not in named]:
        raise CommandError(f"To reach a cluster, set {' and '.join(missing)} too.", USAGE)
    return Endpoints(named["jobs_endpoint"], named["upload_endpoint"], named["token_file"])


def are_named(environment: Mapping[str, str]) -> bool:
    """Whether the environment names the endpoint of a service."""
    return any(environment.get(name) for name in VARIABLES if name != "CREASE_TOKEN_FILE")


def as_admin(found: Endpoints) -> Endpoints:
    """The same endpoints with the superuser's token of a laptop; in a cluster, the caller's own token must be one."""
    if not found.state_folder:
        return found
    return replace(found, token_file=str(StateDir(Path(found.state_folder)).token_file("admin")))
