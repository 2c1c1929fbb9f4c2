"""The laptop's one folder: who may run on it, where each part keeps its things, what the other commands need to know.

STATE/
├── lock           held while `crease up` runs on this folder; says its process id
├── client.json    where the services answer; there while they do
├── issuer/        the laptop's own key pair
├── tokens/        coach, admin, upload, controller
├── uploads/       notes on uploads that are not complete
├── postgres/  s3/  controller/
└── logs/          one file a program
"""

import fcntl
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from services import dev_issuer
from services.cli.errors import AWAY, Trouble

COACH = "coach@laptop"


@dataclass(frozen=True)
class Client:
    """What `crease analyze` and the others need; the content of client.json."""

    jobs_endpoint: str
    upload_endpoint: str
    token_file: str
    # The most that the S3 server takes in one video; 0: it sets no limit of ours.
    largest_video_bytes: int = 0
    # The folder of the `crease up` behind them; empty where they are a cluster's.
    state_folder: str = ""
    # Where each program on it exposes its metrics, by its name.
    metrics: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Laptop:
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

    def token_file(self, whose: str) -> Path:
        return self.folder / "tokens" / whose


def default_folder() -> Path:
    """$XDG_STATE_HOME/crease, as the desktop's rules have it."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "crease"


def create(folder: Path) -> Laptop:
    """The folder, closed to other users, except that PostgreSQL's own user must pass through it where we are root."""
    folder = folder.expanduser().resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
    except OSError as error:
        raise Trouble(f"The state folder {folder} cannot be used: {error.strerror}.") from None
    return Laptop(folder)


def claim(laptop: Laptop) -> int:
    """Takes the folder for this process and its forks; the kernel gives it back when they are gone. Raises Trouble."""
    lock = os.open(laptop.lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(lock, 20).decode().strip()
        raise Trouble(
            f"`crease up` already runs on {laptop.folder} (process {owner}): use it, stop it, or name another folder "
            "with --state."
        ) from None
    # What one that was killed left behind would lead the other commands to where nobody answers.
    laptop.client_file.unlink(missing_ok=True)
    os.ftruncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode())
    return lock


def is_up(laptop: Laptop) -> bool:
    """Whether a `crease up` holds the folder. Not by its process id, which the system gives away again."""
    try:
        with laptop.lock.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def announce(laptop: Laptop, client: Client) -> None:
    """Lets the other commands find the services."""
    _write(laptop.client_file, json.dumps(asdict(client) | {"up_pid": os.getppid()}, indent=2) + "\n")


def find(laptop: Laptop) -> Client:
    """What `crease up` announced. Raises Trouble where none runs."""
    if not is_up(laptop):
        raise Trouble("Crease does not run here: start it with `crease up`, in another terminal.", AWAY)
    try:
        content = json.loads(laptop.client_file.read_text())
    except FileNotFoundError:
        raise Trouble("`crease up` is still starting: try again when it says ready.", AWAY) from None
    except (OSError, ValueError) as error:
        raise Trouble(f"{laptop.client_file} cannot be read: {error}", AWAY) from None
    return Client(**{name: content[name] for name in Client.__dataclass_fields__})


def mint_tokens(laptop: Laptop) -> None:
    """Gives the coach and the programs fresh tokens."""
    dev_issuer.create(laptop.issuer)
    (laptop.folder / "tokens").mkdir(exist_ok=True, mode=0o700)
    _write(laptop.token_file("coach"), dev_issuer.person(laptop.issuer, COACH))
    _write(laptop.token_file("admin"), dev_issuer.person(laptop.issuer, "admin@laptop", role="superuser"))
    for program in ("upload", "controller"):
        _write(laptop.token_file(program), dev_issuer.program(laptop.issuer, program))


def s3_secret(laptop: Laptop) -> str:
    """The laptop's own S3 secret, made once."""
    file = laptop.folder / "s3" / "secret"
    file.parent.mkdir(exist_ok=True, mode=0o700)
    if not file.exists():
        _write(file, secrets.token_urlsafe(30))
    return file.read_text()


def _write(file: Path, text: str) -> None:
    # Put in place whole: others read it at any time.
    draft = file.with_name(file.name + ".new")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        out.write(text)
    draft.replace(file)
