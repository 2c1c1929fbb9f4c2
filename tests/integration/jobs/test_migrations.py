"""A database from before two-phase uploads, brought up to date."""

import uuid

import psycopg
import pytest

from services.jobs.__main__ import migrate
from tests.postgres import Server

OLD = ("queued", "quick_running", "quick_done", "deep_running", "done", "processing", "completed", "failed")


@pytest.fixture
def old_database(postgres_server: Server) -> str:
    """At 0001, with a row in every status."""
    name = f"test_{uuid.uuid4().hex}"
    postgres_server.run(f"CREATE DATABASE {name}")
    url = postgres_server.url(name)
    migrate(url, "0001")
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(
            "INSERT INTO video_sessions (owner_type, owner_id, created_by) VALUES ('coach', 'c', 'c') RETURNING id"
        ).fetchone()
        assert row is not None
        for status in OLD:
            connection.execute(
                "INSERT INTO video_analysis_jobs (session_id, status, s3_bucket, s3_key, error_message)"
                " VALUES (%s, %s, 'b', 'k', %s)",
                (row[0], status, status),
            )
    return url


def test_an_old_database_upgrades_without_losing_a_row(old_database: str) -> None:
    """completed is done, processing starts again, queued stays claimable; 0002 puts awaiting_upload first."""
    migrate(old_database)
    with psycopg.connect(old_database) as connection:
        rows = dict(connection.execute("SELECT error_message, status::text FROM video_analysis_jobs").fetchall())
    assert rows == {
        "queued": "queued",
        "quick_running": "queued",
        "quick_done": "queued",
        "deep_running": "queued",
        "done": "done",
        "processing": "queued",
        "completed": "done",
        "failed": "failed",
    }


def test_the_old_labels_are_refused_from_now_on(old_database: str) -> None:
    """They stay in the enum, and a CHECK keeps them out."""
    migrate(old_database)
    with psycopg.connect(old_database, autocommit=True) as connection:
        for label in ("processing", "completed"):
            with pytest.raises(psycopg.errors.CheckViolation):
                connection.execute("UPDATE video_analysis_jobs SET status = %s", [label])


def test_migrating_twice_changes_nothing(old_database: str) -> None:
    """A hook that runs again is harmless."""
    versions = []
    for _ in range(2):
        migrate(old_database)
        with psycopg.connect(old_database) as connection:
            versions.append(connection.execute("SELECT version_num FROM alembic_version").fetchall())
    assert versions[0] == versions[1]
    assert len(versions[0]) == 1


def test_the_database_refuses_a_second_open_launch(old_database: str) -> None:
    """One open launch a job, whoever writes."""
    migrate(old_database)
    job = "SELECT id FROM video_analysis_jobs ORDER BY id LIMIT 1"
    insert = f"INSERT INTO launches (job_id, launch_no, cluster) VALUES (({job}), %s, 'c')"  # noqa: S608 (constants)
    with psycopg.connect(old_database, autocommit=True) as connection:
        connection.execute(insert, [1])
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute(insert, [2])
