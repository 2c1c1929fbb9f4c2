"""Lists: what a person may see, in pages, newest first (AIP-158).

A token holds the position of the last row and a digest of the filter.
"""

import base64
import hashlib
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from services import errors
from services.auth import Person
from services.jobs.domain import authorization
from services.jobs.store.database import Connection, Record, Row
from services.jobs.store.schema import sessions

DEFAULT_PAGE = 50
MAX_PAGE = 200
MAX_TOKEN_CHARACTERS = 500


def visible_to(person: Person) -> sa.ColumnElement[bool]:
    """The condition of a session that a person may see: one of `visible_owners` has it, and it is not deleted."""
    exists = sessions.c.deleted_at.is_(None)
    owners = authorization.visible_owners(person)
    if owners is None:
        return exists
    owned = [(sessions.c.owner_type == owner.type.value) & (sessions.c.owner_id == owner.id) for owner in owners]
    return exists & sa.or_(*owned)


def page_size(requested: int) -> int:
    """The size of a page: 0 means 50, more than 200 means 200. Raises InvalidArgument for a negative one."""
    if requested < 0:
        raise errors.InvalidArgument("page_size", "must not be negative")
    return min(requested, MAX_PAGE) or DEFAULT_PAGE


async def read_page(
    connection: Connection,
    read: Callable[[Row], Record],
    statement: sa.Select[Any],
    table: sa.Table,
    *,
    size: int,
    token: str,
    filtered: str,
) -> tuple[list[Record], str]:
    """A page of a query on `table`, newest first, and the next page's token (empty at the end).

    filtered: a text that identifies the filter. Raises InvalidArgument for a token of another filter.
    """
    size = page_size(size)
    if token:
        position = sa.tuple_(*_parse_token(token, filtered))
        statement = statement.where(sa.tuple_(table.c.created_at, table.c.id) < position)
    statement = statement.order_by(table.c.created_at.desc(), table.c.id.desc()).limit(size + 1)
    rows = await connection.rows(statement)
    next_token = _make_token(rows[size - 1], filtered) if len(rows) > size else ""
    return [read(row) for row in rows[:size]], next_token


def _digest(filtered: str) -> str:
    return hashlib.sha256(filtered.encode()).hexdigest()[:16]


def _make_token(row: Row, filtered: str) -> str:
    parts = [row["created_at"].isoformat(), str(row["id"]), _digest(filtered)]
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode()


def _parse_token(token: str, filtered: str) -> tuple[datetime, UUID]:
    try:
        created_at, key, digest = json.loads(base64.urlsafe_b64decode(token[:MAX_TOKEN_CHARACTERS].encode()))
        if digest == _digest(filtered):
            return datetime.fromisoformat(created_at), UUID(str(key))
    except (ValueError, TypeError):
        pass
    raise errors.InvalidArgument("page_token", "does not belong to this list")
