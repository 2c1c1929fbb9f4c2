"""Shares in the database. A row has the hash of its secret alone; a share that is revoked or has expired has no row."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from services import errors
from services.auth import User
from services.jobs.domain import authorization
from services.jobs.domain.records import Owner
from services.jobs.store import pagination
from services.jobs.store.database import Connection, Row, parse_id
from services.jobs.store.rows import read_owner
from services.jobs.store.schema import shares

MOST_SHARES = 1000


@dataclass(frozen=True, slots=True)
class Share:
    """One share. `job_ids` in the order of comparison."""

    id: UUID
    owner: Owner
    job_ids: tuple[UUID, ...]
    with_names: bool
    created_at: datetime
    expires_at: datetime


async def create(connection: Connection, user: User, owner: Owner, values: dict[str, Any]) -> tuple[Share, str]:
    """Adds a share with these columns and `seconds`, and returns it with its secret.

    The same request_id again replaces the secret. Raises AlreadyExists if that request_id was used with other content,
    InvalidArgument if the owner has MOST_SHARES.
    """
    secret = secrets.token_urlsafe(32)
    values |= {"owner_type": owner.type, "owner_id": owner.id, "created_by": authorization.actor(user)}
    values |= {"secret_hash": _hash(secret), "most": MOST_SHARES}
    row = await connection.row(_INSERT, **values)
    if row is None:
        row = await connection.row(_SAME_REQUEST, **values)
        if row is None:
            raise errors.InvalidArgument("job_ids", f"the owner has {MOST_SHARES} shares: revoke some")
        if row["request_sha256"] != values["request_sha256"]:
            raise errors.AlreadyExists("request_id was used for another share", reason="REQUEST_ID_REUSED")
    return _read(row), secret


_INSERT = """
    INSERT INTO shares (owner_type, owner_id, created_by, secret_hash, job_ids, with_names, expires_at, request_id,
        request_sha256)
    SELECT %(owner_type)s, %(owner_id)s, %(created_by)s, %(secret_hash)s, %(job_ids)s::uuid[], %(with_names)s,
        clock_timestamp() + %(seconds)s * interval '1 second', %(request_id)s, %(request_sha256)s
    WHERE (SELECT count(*) FROM shares WHERE owner_type = %(owner_type)s AND owner_id = %(owner_id)s) < %(most)s
    ON CONFLICT (created_by, request_id) WHERE request_id IS NOT NULL DO NOTHING RETURNING *
"""
_SAME_REQUEST = """
    UPDATE shares SET secret_hash = CASE WHEN request_sha256 = %(request_sha256)s THEN %(secret_hash)s
        ELSE secret_hash END
    WHERE created_by = %(created_by)s AND request_id = %(request_id)s RETURNING *
"""


async def list_visible(connection: Connection, user: User, *, size: int, page_token: str) -> pagination.Page[Share]:
    """A page of the shares that a user may see, newest first. Raises InvalidArgument."""
    in_force = shares.c.expires_at > sa.func.clock_timestamp()
    statement = sa.select(shares).where(in_force)
    return await pagination.read_page(
        connection,
        _read,
        statement,
        pagination.visible_to(user, shares),
        pagination.newest(shares),
        size=size,
        token=page_token,
        filtered=f"{authorization.actor(user)} shares",
    )


async def revoke(connection: Connection, share_id: str, user: User) -> None:
    """Ends a share. Raises NotFound, PermissionDenied."""
    row = await connection.row("SELECT * FROM shares WHERE id = %(id)s FOR UPDATE", id=parse_id(share_id))
    if row is None:
        raise not_found()
    if not authorization.may_see(user, read_owner(row)):
        raise errors.PermissionDenied("You don't have access to this share", reason="SHARE_ACCESS_DENIED")
    await connection.run("DELETE FROM shares WHERE id = %(id)s", id=row["id"])


async def get_by_secret(connection: Connection, secret: str) -> Share:
    """The share of a secret. Raises NotFound."""
    row = await connection.row(_GET_BY_HASH, secret_hash=_hash(secret))
    if row is None:
        raise not_found()
    return _read(row)


_GET_BY_HASH = "SELECT * FROM shares WHERE secret_hash = %(secret_hash)s AND expires_at > clock_timestamp()"


async def purge(connection: Connection, limit: int) -> int:
    """Deletes at most `limit` shares that have expired; returns how many."""
    return await connection.run(_PURGE, limit=limit)


_PURGE = """
    DELETE FROM shares WHERE id IN (
        SELECT id FROM shares WHERE expires_at <= clock_timestamp() ORDER BY expires_at LIMIT %(limit)s
        FOR UPDATE SKIP LOCKED)
"""


def not_found() -> errors.NotFound:
    """The error for a share that does not exist or has ended."""
    return errors.NotFound("This share does not exist, or it has ended", reason="SHARE_NOT_FOUND")


def _read(row: Row) -> Share:
    return Share(
        id=row["id"],
        owner=read_owner(row),
        job_ids=tuple(row["job_ids"]),
        with_names=row["with_names"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
    )


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
