"""Checks of the rows that are written from now on."""

from alembic import op

revision = "0006"
down_revision = "0005"

CHECKS = {
    "job_status_is_current": "status NOT IN ('processing', 'completed')",
    "job_progress_in_range": "progress_pct BETWEEN 0 AND 100",
    "job_done_is_whole": "status <> 'done' OR progress_pct = 100",
}


def upgrade() -> None:
    for name, condition in CHECKS.items():
        op.execute(f"ALTER TABLE video_analysis_jobs ADD CONSTRAINT {name} CHECK ({condition}) NOT VALID")
