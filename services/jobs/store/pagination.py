"""Lists: what a user may see, in pages, in a fixed order (AIP-158).

A token holds the position of the last row in the order, and a digest of the filter. A page ends before it is too large
for a message, so it may have fewer rows than requested.
"""

import base64
import hashlib
import json
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

import sqlalchemy as sa
from google.protobuf.message import Message

from services import errors
from services.auth import User
from services.jobs.domain import authorization
from services.jobs.domain.records import Job, Player, Session
from services.jobs.store.database import Connection, Row
from services.jobs.store.schema import jobs, players

DEFAULT_PAGE = 50
MAX_PAGE = 200
# That of the longest name.
MAX_TOKEN_CHARACTERS = 10_000
# Below the upper bound of a gRPC message, 4 MB. One row alone is far smaller.
MAX_PAGE_BYTES = 3 * 2**20
Listed = TypeVar("Listed")
Sent = TypeVar("Sent", bound=Message)


@dataclass(frozen=True, slots=True)
class Order(Generic[Listed]):
    """The order of a list. `position` writes the values of `columns` in a record as texts, and `parse` reads them."""

    columns: tuple[sa.Column[Any], ...]
    descending: bool
    position: Callable[[Listed], Sequence[str]]
    parse: Callable[[Sequence[str]], Sequence[Any]]


def newest(table: sa.Table) -> Order[Any]:
    """Newest first, of sessions or jobs."""
    return Order((table.c.created_at, table.c.id), True, _age, _parse_age)


def _age(record: Job | Session) -> tuple[str, str]:
    return record.created_at.isoformat(), str(record.id)


def _parse_age(texts: Sequence[str]) -> tuple[datetime, UUID]:
    created_at, key = texts
    return datetime.fromisoformat(created_at), UUID(key)


def by_name() -> Order[Player]:
    """Players by name."""
    return Order((players.c.name_key, players.c.id), False, _name, _parse_name)


def _name(player: Player) -> tuple[str, str]:
    return name_key(player.name), player.id


def _parse_name(texts: Sequence[str]) -> tuple[str, str]:
    name, key = texts
    return name, key


def name_key(name: str) -> str:
    """A name as players are sorted and searched: in small letters, and the same however its accents are encoded."""
    return unicodedata.normalize("NFKC", name).casefold()


@dataclass(frozen=True, slots=True)
class Page(Generic[Listed]):
    """Rows of a list, in `order`. `has_more`: whether others follow. `filtered`: identifies the filter."""

    records: list[Listed]
    has_more: bool
    filtered: str
    order: Order[Listed]

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
        return sent, "" if is_last else _make_token(self.order.position(self.records[len(sent) - 1]), self.filtered)


def visible_to(user: User, table: sa.Table) -> list[sa.ColumnElement[bool]]:
    """For each of `visible_owners`, the condition of the owner's rows; one that is always true for every owner.

    The owner of a job is read from its own row, so that an index has the owner's jobs by age.
    """
    owners = authorization.visible_owners(user)
    if owners is None:
        return [sa.true()]
    if table is jobs:
        return [jobs.c.owner == f"{owner.type}/{owner.id}" for owner in owners]
    return [(table.c.owner_type == owner.type.value) & (table.c.owner_id == owner.id) for owner in owners]


def page_size(requested: int) -> int:
    """The size of a page: 0 means 50, more than 200 means 200. Raises InvalidArgument for a negative one."""
    if requested < 0:
        raise errors.InvalidArgument("page_size", "must not be negative")
    return min(requested, MAX_PAGE) or DEFAULT_PAGE


async def read_page(
    connection: Connection,
    read: Callable[[Row], Listed],
    statement: sa.Select[Any],
    owned: Sequence[sa.ColumnElement[bool]],
    order: Order[Listed],
    *,
    size: int,
    token: str,
    filtered: str,
) -> Page[Listed]:
    """A page of a query, in an order, of the rows that have one of the conditions `owned` (`visible_to`).

    Each condition is a query of its own, which reads one page by an index. With all of them in one, PostgreSQL may read
    the rows of every owner by age until a page is full. filtered: a text that identifies the filter. Raises
    InvalidArgument for a token of another filter.
    """
    size = page_size(size)
    columns = sa.tuple_(*order.columns)
    if token:
        position = sa.tuple_(*_parse_token(token, order, filtered))
        statement = statement.where(columns < position if order.descending else columns > position)
    ordered = [column.desc() if order.descending else column.asc() for column in order.columns]
    found: list[sa.Select[Any]] = [statement.where(each).order_by(*ordered).limit(size + 1) for each in owned]
    rows = await connection.rows(found[0] if len(found) == 1 else _merged(found, order, size + 1))
    return Page([read(row) for row in rows[:size]], len(rows) > size, filtered, order)


def _merged(found: list[sa.Select[Any]], order: Order[Any], limit: int) -> sa.CompoundSelect[Any]:
    union = sa.union_all(*found)
    columns = [union.selected_columns[column.name] for column in order.columns]
    return union.order_by(*[column.desc() if order.descending else column.asc() for column in columns]).limit(limit)


def _digest(filtered: str) -> str:
    return hashlib.sha256(filtered.encode()).hexdigest()[:16]


def _make_token(position: Sequence[str], filtered: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([*position, _digest(filtered)], ensure_ascii=False).encode()).decode()


def _parse_token(token: str, order: Order[Any], filtered: str) -> Sequence[Any]:
    try:
        *position, digest = json.loads(base64.urlsafe_b64decode(token[:MAX_TOKEN_CHARACTERS].encode()))
        if digest == _digest(filtered):
            return order.parse([str(text) for text in position])
    except (ValueError, TypeError, RecursionError):
        pass
    raise errors.InvalidArgument("page_token", "does not belong to this list")
