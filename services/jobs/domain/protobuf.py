"""Enum names and times as protobuf holds them. Columns and enums of ours hold `queued` for `JOB_STATUS_QUEUED`."""

from datetime import datetime
from typing import Any

from google.protobuf import timestamp_pb2


def timestamp(moment: datetime | None) -> timestamp_pb2.Timestamp | None:
    """A protobuf timestamp; None leaves the field unset."""
    if moment is None:
        return None
    message = timestamp_pb2.Timestamp()
    message.FromDatetime(moment)
    return message


def enum_text(enum: Any, number: int) -> str:
    """`JOB_STATUS_QUEUED` as `queued`; the zero value and an unknown number as an empty string."""
    if number == 0 or number not in enum.values():
        return ""
    prefix = enum.Name(0).removesuffix("UNSPECIFIED")
    return str(enum.Name(number)).removeprefix(prefix).lower()


def enum_number(enum: Any, text: str | None) -> Any:
    """`queued` as JOB_STATUS_QUEUED; an empty or missing text as the zero value."""
    prefix = enum.Name(0).removesuffix("UNSPECIFIED")
    return enum.Value(f"{prefix}{text.upper()}") if text else 0
