"""The enums of records, held against the protos, the policy of retries and the enum of the database."""

from enum import StrEnum
from typing import Any

import pytest

from crease.analysis.v1 import launch_pb2
from crease.jobs.v1 import job_pb2, session_pb2
from services.jobs.domain import retry_policy
from services.jobs.domain.protobuf import enum_number, enum_text
from services.jobs.domain.records import Accelerator, Ending
from services.jobs.domain.states import ResultStage, SessionStatus, Status
from services.jobs.store.schema import job_status

# Labels from before two-phase uploads, which a CHECK refuses.
OLD_LABELS = {"processing", "completed"}


@pytest.mark.parametrize(
    ("ours", "proto"),
    [
        (Status, job_pb2.JobStatus),
        (ResultStage, job_pb2.Stage),
        (SessionStatus, session_pb2.SessionStatus),
        (Accelerator, job_pb2.Accelerator),
        (Ending, launch_pb2.Ending),
    ],
)
def test_each_enum_has_exactly_the_values_of_its_proto(ours: type[StrEnum], proto: Any) -> None:
    """In both directions, except the proto's zero value."""
    assert {enum_text(proto, number) for number in proto.values()} == {"", *ours}
    assert all(enum_text(proto, enum_number(proto, one)) == one for one in ours)


def test_every_ending_but_success_and_cancellation_has_its_rule() -> None:
    """A controller and an analyzer may report each ending that has a rule."""
    assert set(retry_policy.RULES) == set(Ending) - {Ending.SUCCEEDED, Ending.CANCELLED}


def test_the_statuses_are_those_of_the_database_in_its_order() -> None:
    """Operators sort by the order of the database's enum."""
    assert [label for label in job_status.enums if label not in OLD_LABELS] == list(Status)
