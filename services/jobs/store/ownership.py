"""`authorization.visible_owners` as SQL, for lists."""

import sqlalchemy as sa

from services.auth import Person
from services.jobs.domain import authorization
from services.jobs.store.schema import sessions


def visible_to(person: Person) -> sa.ColumnElement[bool]:
    """The condition of a session that a person may see: its owner is visible to them, and it is not deleted."""
    exists = sessions.c.deleted_at.is_(None)
    owners = authorization.visible_owners(person)
    if owners is None:
        return exists
    owned = [(sessions.c.owner_type == owner.type.value) & (sessions.c.owner_id == owner.id) for owner in owners]
    return exists & sa.or_(*owned)
