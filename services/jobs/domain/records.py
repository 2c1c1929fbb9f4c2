"""Jobs, launches, sessions and events as the program holds them. `store/rows.py` makes them, once, of database rows.

A record holds the columns that the program reads. Names and units are those of the columns (`store/schema.py`).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from services.jobs.domain import states
from services.jobs.domain.states import ResultStage, Status


class Ending(StrEnum):
    """How a launch ended, by class. `retry_policy.py` says what follows from each."""

    SUCCEEDED = "succeeded"
    BAD_INPUT = "bad_input"
    DISRUPTION = "disruption"
    OUT_OF_MEMORY = "out_of_memory"
    IMAGE = "image"
    UNSCHEDULABLE = "unschedulable"
    DEADLINE = "deadline"
    UNKNOWN = "unknown"
    LEASE_LOST = "lease_lost"
    CANCELLED = "cancelled"


class Accelerator(StrEnum):
    AUTO = "auto"
    GPU = "gpu"
    CPU = "cpu"


class OwnerType(StrEnum):
    COACH = "coach"
    ORGANISATION = "org"


@dataclass(frozen=True, slots=True)
class Owner:
    """The owner of a session: a coach, by subject, or an organisation, by id."""

    type: OwnerType
    id: str


@dataclass(frozen=True, slots=True)
class Player:
    """A player of an owner. `hand` is the enum of the proto in lower case; empty and 0: not given."""

    id: str
    owner: Owner
    name: str
    height_cm: int
    birth_year: int
    hand: str
    notes: str
    created_at: datetime
    updated_at: datetime

    @property
    def etag(self) -> str:
        """Another one after each update."""
        return _etag(self.id, self.updated_at)


@dataclass(frozen=True, slots=True)
class Session:
    """What a coach files videos under. `discipline` and `camera_view` are the enums of the protos, in lower case.

    `players`: those of the owner whom `player_ids` names.
    """

    id: UUID
    owner: Owner
    title: str
    player_ids: tuple[str, ...]
    notes: str
    discipline: str
    camera_view: str
    created_at: datetime
    updated_at: datetime
    players: tuple[Player, ...] = ()

    @property
    def etag(self) -> str:
        """Another one after each update."""
        return _etag(self.id, self.updated_at)


def _etag(key: object, updated_at: datetime) -> str:
    return hashlib.sha256(f"{key} {updated_at.isoformat()}".encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Video:
    """The S3 object that a job analyses. `etag` is empty until the upload is verified.

    `part_bytes`, `upload_id` and `parts_sha256` are set for a video that is uploaded in parts.
    """

    s3_bucket: str
    s3_key: str
    content_type: str
    content_length: int
    etag: str
    version_id: str
    sha256: str
    part_bytes: int
    upload_id: str
    parts_sha256: str


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that an analyzer stored in S3."""

    name: str
    stage: ResultStage
    content_type: str
    content_length: int
    s3_key: str


@dataclass(frozen=True, slots=True)
class GivenEvent:
    """A moment of a video that the client states. `name` is that of an event in the results."""

    name: str
    time_seconds: float


@dataclass(frozen=True, slots=True)
class Job:
    """One analysis of one video. `owner` is the owner's key in the fair queue: `coach/ID` or `org/ID`.

    `acted_by` is the user who made the last request: a person's subject, or `service:NAME for OWNER`.

    `discipline` is empty for the session's. `capture_fps` is 0 if the client stated none.
    `results` is JSON as stored; a row from before two-phase uploads may hold anything there. A list leaves it out.
    """

    id: UUID
    session_id: UUID
    status: Status
    stage: str
    progress_pct: int
    failure_code: str
    error_message: str
    sample_fps: int
    include_frames: bool
    deep_enabled: bool
    anonymous: bool
    accelerator: Accelerator
    athlete_box: Mapping[str, float] | None
    discipline: str
    capture_fps: float
    events: tuple[GivenEvent, ...]
    video: Video
    sqs_message_id: str | None
    source_job_id: UUID | None
    results: Any
    results_stage: ResultStage | None
    artifacts: tuple[Artifact, ...]
    launch_count: int
    memory_factor: float
    retries_from_launch: int
    owner: str
    acted_by: str
    has_open_launch: bool
    version: int
    trace_parent: str
    not_before: datetime | None
    cancel_requested_at: datetime | None
    cleared_at: datetime | None
    is_deleted: bool
    status_since: datetime
    created_at: datetime
    queued_at: datetime | None
    started_at: datetime | None
    completed_at: datetime | None
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Launch:
    """One try to run a job. `ending` is None while the launch is open; `lease_hash` is a SHA-256."""

    job_id: UUID
    launch_no: int
    cluster: str
    memory_factor: float
    kubernetes_uid: str
    placed_on: Accelerator | None
    placement_reason: str
    pod_name: str
    pod_uid: str
    lease_hash: bytes | None
    lease_expires_at: datetime | None
    ending: Ending | None
    ending_message: str
    opened_at: datetime
    confirmed_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class AssignedLaunch(Launch):
    """A launch with the columns of its job that its controller needs.

    `unscheduled_reason`: why an earlier launch of the job got no GPU. `is_leased`: whether the lease was valid, by the
    database's clock, when the row was read.
    """

    session_id: UUID
    accelerator: Accelerator
    owner: str
    job_status: Status
    job_queued_at: datetime | None
    cancel_requested_at: datetime | None
    trace_parent: str
    unscheduled_reason: str
    is_leased: bool


@dataclass(frozen=True, slots=True)
class Event:
    """A transition in the outbox; (`xid`, `id`) is its position. `owner`: of its session, None where it has no row."""

    xid: int
    id: int
    job_id: UUID
    session_id: UUID
    from_status: Status | None
    to_status: Status
    failure_code: str
    sample_fps: int
    include_frames: bool
    created_at: datetime
    owner: Owner | None

    @property
    def type(self) -> str:
        """The CloudEvents type."""
        return states.event_type(self.to_status, self.failure_code)
