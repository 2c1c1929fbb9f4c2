"""Lists: what a user may see, in pages, newest first (AIP-158).

A token holds the position of the last row and a digest of the filter. A page ends before it is too large for a message,
so it may have fewer rows than requested.
"""

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

import sqlalchemy as sa
from google.protobuf.message import Message

from services import errors
from services.auth import User
from services.jobs.domain import authorization
from services.jobs.domain.records import Job, Session
from services.jobs.store.database import Connection, Row
from services.jobs.store.schema import sessions

DEFAULT_PAGE = 50
MAX_PAGE = 200
MAX_TOKEN_CHARACTERS = 500
# Below the upper bound of a gRPC message, 4 MB. One row alone is far smaller.
MAX_PAGE_BYTES = 3 * 2**20
Listed = TypeVar("Listed", Job, Session)
Sent = TypeVar("Sent", bound=Message)


@dataclass(frozen=True, slots=True)
class Page(Generic[Listed]):
    """Rows of a list, newest first. `has_more`: whether others follow. `filtered`: identifies the filter."""

    records: list[Listed]
    has_more: bool
    filtered: str

    def messages(self, message: Callable[[Listed], Sent]) -> tuple[list[Sent], str]:
        """The messages of the first rows, of MAX_PAGE_BYTES together, and the next page's token (empty at the end)."""
        sent: list[Sent] = []
        size = 0
        for record in self.records:
            sent.append(message(record))
            size += sent[-1].ByteSize()
            if size > MAX_PAGE_BYTES and len(sent) > 1:
                sent.pop()
                break
        is_last = len(sent) == len(self.records) and not self.has_more
        return sent, "" if is_last else _make_token(self.records[len(sent) - 1], self.filtered)


def visible_to(user: User) -> sa.ColumnElement[bool]:
    """The condition of a session that a user may see: one of `visible_owners` has it, and it is not deleted."""
    exists = sessions.c.deleted_at.is_(None)
    owners = authorization.visible_owners(user)
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
    read: Callable[[Row], Listed],
    statement: sa.Select[Any],
    table: sa.Table,
    *,
    size: int,
    token: str,
    filtered: str,
) -> Page[Listed]:
    """A page of a query on `table`, newest first.

    filtered: a text that identifies the filter. Raises InvalidArgument for a token of another filter.
    """
    size = page_size(size)
    if token:
        position = sa.tuple_(*_parse_token(token, filtered))
        statement = statement.where(sa.tuple_(table.c.created_at, table.c.id) < position)
    statement = statement.order_by(table.c.created_at.desc(), table.c.id.desc()).limit(size + 1)
    rows = await connection.rows(statement)
    return Page([read(row) for row in rows[:size]], len(rows) > size, filtered)


def _digest(filtered: str) -> str:
    return hashlib.sha256(filtered.encode()).hexdigest()[:16]


def _make_token(record: Job | Session, filtered: str) -> str:
    parts = [record.created_at.isoformat(), str(record.id), _digest(filtered)]
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode()


def _parse_token(token: str, filtered: str) -> tuple[datetime, UUID]:
    try:
        created_at, key, digest = json.loads(base64.urlsafe_b64decode(token[:MAX_TOKEN_CHARACTERS].encode()))
        if digest == _digest(filtered):
            return datetime.fromisoformat(created_at), UUID(str(key))
    except (ValueError, TypeError):
        pass
    raise errors.InvalidArgument("page_token", "does not belong to this list")
