"""Rows as records: what old rows, operators and old columns leave in them."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from crease.events.v1 import event_pb2
from crease.jobs.v1 import job_pb2
from services.jobs.domain.records import Artifact, Ending
from services.jobs.domain.states import ResultStage, Status
from services.jobs.store.events.outbox import cloud_event
from services.jobs.store.rows import artifact_json, read_artifact, read_event, read_launch
from testing.data import jobs

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
EVENT: dict[str, Any] = {
    "xid": 7, "id": 3, "job_id": UUID(int=1), "session_id": UUID(int=2), "from_status": "queued",
    "to_status": "quick_running", "failure_code": "", "sample_fps": 10, "include_frames": False, "created_at": NOW,
}  # fmt: skip


def launch_row(ending: str) -> dict[str, Any]:
    """A row of `launches`, whose columns have the record's names."""
    launch = jobs.launch()
    return {name: getattr(launch, name) for name in launch.__dataclass_fields__} | {"ending": ending, "placed_on": ""}


def test_an_event_from_a_status_of_old_is_sent_without_it() -> None:
    """Migration 0005 moved rows from `processing`, which the protos have no value for."""
    event = read_event(EVENT | {"from_status": "processing", "to_status": "queued"})
    assert (event.from_status, event.to_status) == (None, Status.QUEUED)
    message = cloud_event(event)
    assert isinstance(message, event_pb2.Event)
    assert (message.id, message.type) == ("7-3", "JobQueued")
    assert message.data.from_status == job_pb2.JOB_STATUS_UNSPECIFIED


def test_an_ending_that_an_operator_invented_reads_as_unknown() -> None:
    """And an empty one as none."""
    assert read_launch(launch_row("went home")).ending is Ending.UNKNOWN
    assert read_launch(launch_row("lease_lost")).ending is Ending.LEASE_LOST
    assert read_launch(launch_row("")).ending is None


def test_an_artifact_is_read_as_it_was_written() -> None:
    """Its stage is stored under the name of the proto."""
    artifact = Artifact("report.html", ResultStage.DEEP, "text/html", 10, "k/deep/report.html")
    assert artifact_json(artifact)["stage"] == job_pb2.Stage.Name(job_pb2.STAGE_DEEP)
    assert read_artifact(artifact_json(artifact)) == artifact
    assert read_artifact(artifact_json(replace(artifact, stage=ResultStage.QUICK))).stage is ResultStage.QUICK
