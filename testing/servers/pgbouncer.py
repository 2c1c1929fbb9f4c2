"""PgBouncer in transaction mode with default settings otherwise: it ignores no startup parameter."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from testing.servers.programs import free_port

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")
MISSING = "pgbouncer is not installed (Debian: apt-get install pgbouncer)"
READY_SECONDS = 30


@contextmanager
def pgbouncer(folder: Path, server: Path, database: str, *, sessions: int = 2) -> Iterator[str]:
    """host:port of a PgBouncer before a database, until the block ends. `server`: the folder of PostgreSQL's socket.

    `sessions`: its sessions with PostgreSQL. Its own user must be able to reach `folder`.
    """
    port = free_port()
    (folder / "pgbouncer.users").write_text('"postgres" ""\n')
    (folder / "pgbouncer.ini").write_text(f"""
[databases]
{database} = host={server} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder / "pgbouncer.users"}
pool_mode = transaction
default_pool_size = {sessions}
""")
    # PgBouncer does not run as root; PostgreSQL's user may enter the folder of its socket.
    as_user = ["-u", server.owner()] if os.geteuid() == 0 else []
    log = folder / "pgbouncer.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [str(PGBOUNCER), *as_user, str(folder / "pgbouncer.ini")], stdout=file, stderr=file, start_new_session=True
        )
    try:
        _wait_until_ready(f"postgresql://postgres@127.0.0.1:{port}/{database}", process, log)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait_until_ready(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    give_up = time.monotonic() + READY_SECONDS
    while True:
        try:
            psycopg.connect(url, autocommit=True, connect_timeout=5).close()
            return
        except psycopg.OperationalError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < give_up, log.read_text()
            time.sleep(0.05)
