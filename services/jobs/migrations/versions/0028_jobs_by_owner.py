"""Indexes the jobs of an owner by age, so that a list reads its page alone. Rows from before 0008 get their owner.

The index serves the quotas too: it takes the place of `jobs_of_owner`.
"""

from alembic import op

from services.jobs.migrations import indexes

revision = "0028"
down_revision = "0027"

# Few rows in each transaction, which locks them; by id, because updated rows leave dead ones in every other order.
FILL = """
    WITH batch AS (SELECT id FROM video_analysis_jobs WHERE id > %(after)s ORDER BY id LIMIT 1000),
    filled AS (
        UPDATE video_analysis_jobs AS job SET owner = owner_type || '/' || owner_id FROM video_sessions AS session
        WHERE session.id = session_id AND job.owner = '' AND job.deleted_at IS NULL
          AND job.id IN (SELECT id FROM batch))
    SELECT id FROM batch ORDER BY id DESC LIMIT 1
"""


def upgrade() -> None:
    with op.get_context().autocommit_block():
        after: str | None = "00000000-0000-0000-0000-000000000000"
        while after:
            after = op.get_bind().exec_driver_sql(FILL, {"after": after}).scalar()
    columns = "(owner, created_at DESC, id DESC) INCLUDE (content_length) WHERE deleted_at IS NULL"
    indexes.build("video_analysis_jobs", {"jobs_by_owner": columns})
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS jobs_of_owner")
