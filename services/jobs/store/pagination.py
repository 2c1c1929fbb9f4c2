"""Pages of a list, newest first (AIP-158): a token says where the last page ended, and of which list it is."""

import base64
import hashlib
import json
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from services import errors
from services.jobs.store.database import Connection, Row

DEFAULT_PAGE = 50
MAX_PAGE = 200
MAX_TOKEN_CHARACTERS = 500


def page_size(asked: int) -> int:
    """The size of a page: 0 means 50, over 200 means 200. Raises InvalidArgument for a negative one."""
    if asked < 0:
        raise errors.InvalidArgument("page_size", "must not be negative")
    return min(asked, MAX_PAGE) or DEFAULT_PAGE


async def read(
    connection: Connection, statement: sa.Select[Any], table: sa.Table, *, size: int, token: str, filtered: str
) -> tuple[list[Row], str]:
    """The rows of a query on `table` that a token asks for, newest first, and the next page's token (empty at the end).

    filtered: what the list is of, in words; a token of another list is refused. Raises InvalidArgument.
    """
    size = page_size(size)
    if token:
        statement = statement.where(sa.tuple_(table.c.created_at, table.c.id) < sa.tuple_(*_open(token, filtered)))
    statement = statement.order_by(table.c.created_at.desc(), table.c.id.desc()).limit(size + 1)
    rows: list[Row] = [*await connection.rows(statement)]
    return rows[:size], _token(rows[size - 1], filtered) if len(rows) > size else ""


def _digest(filtered: str) -> str:
    return hashlib.sha256(filtered.encode()).hexdigest()[:16]


def _token(last: Row, filtered: str) -> str:
    parts = [last["created_at"].isoformat(), str(last["id"]), _digest(filtered)]
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode()


def _open(token: str, filtered: str) -> tuple[datetime, UUID]:
    try:
        created_at, key, digest = json.loads(base64.urlsafe_b64decode(token[:MAX_TOKEN_CHARACTERS].encode()))
        if digest == _digest(filtered):
            return datetime.fromisoformat(created_at), UUID(str(key))
    except (ValueError, TypeError):
        pass
    raise errors.InvalidArgument("page_token", "does not belong to this list")
