"""Indexes the deletions of players that can still be undone."""

from services.jobs.migrations import indexes

revision = "0030b"
down_revision = "0030"


def upgrade() -> None:
    indexes.build("players", {"players_undoable": "(undo_until) WHERE undo_until IS NOT NULL"})
