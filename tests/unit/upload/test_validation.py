"""Validation of InitiateUpload and SignLaunch."""

from typing import Any

import pytest

from crease.jobs.v1 import job_pb2
from crease.upload.v1.upload_pb2 import InitiateUploadRequest
from services.errors import InvalidArgument
from services.upload.validation import check_artifacts, check_upload

MOST = 1000


def request(**changed: Any) -> InitiateUploadRequest:
    fields: dict[str, Any] = {"content_type": "video/mp4", "content_length": 100}
    return InitiateUploadRequest(**fields | changed)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("content_type", ""),
        ("content_type", "text/html"),
        ("content_type", "video/mp4; x=y"),
        ("content_length", -1),
        ("content_length", 0),
        ("content_length", MOST + 1),
        ("sample_fps", -1),
        ("sample_fps", 31),
        ("sha256", "ab"),
        ("sha256", "g" * 64),
        ("sha256", "ab" * 32 + "\n"),
        ("request_id", "1"),
        ("request_id", "{12345678-1234-5678-1234-567812345678}"),
        ("accelerator", 17),
        ("capture_fps", 0.9),
        ("capture_fps", 1000.5),
        ("capture_fps", float("nan")),
        ("athlete_box", job_pb2.AthleteBox(left=0.9, top=0, width=0.2, height=1)),
        ("athlete_box", job_pb2.AthleteBox(left=0, top=0, width=0, height=1)),
        ("athlete_box", job_pb2.AthleteBox(left=float("nan"), top=0, width=1, height=1)),
    ],
)
def test_a_value_out_of_bounds_names_its_field(field: str, value: Any) -> None:
    """Programs read the field, people the sentence."""
    with pytest.raises(InvalidArgument) as caught:
        check_upload(request(**{field: value}), MOST)
    assert caught.value.field == field


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"content_length": 1},
        {"content_length": MOST},
        {"content_type": "video/x-matroska"},
        {"sample_fps": 1},
        {"sample_fps": 30},
        {"sha256": "aB" * 32},
        {"request_id": "12345678-1234-5678-1234-56781234567A"},
        {"accelerator": job_pb2.ACCELERATOR_CPU},
        {"capture_fps": 1},
        {"capture_fps": 1000},
        {"athlete_box": job_pb2.AthleteBox(left=0.7, top=0.1, width=0.3, height=0.9)},
    ],
)
def test_the_bounds_themselves_are_accepted(changed: dict[str, Any]) -> None:
    """Both ends of each range, and fields left out."""
    check_upload(request(**changed), MOST)


def test_the_analyzers_artifacts_are_accepted() -> None:
    """By their names and types."""
    kinds = {
        "results.json": "application/json",
        "report.html": "text/html; charset=utf-8",
        "frames.parquet": "application/vnd.apache.parquet",
        "overlay.mp4": "video/mp4",
    }
    check_artifacts(
        [
            job_pb2.Artifact(name=name, stage=job_pb2.STAGE_DEEP, content_type=kind, content_length=1)
            for name, kind in kinds.items()
        ]
    )


def test_many_artifacts_at_once_are_refused() -> None:
    """The number of artifacts in one call is bounded."""
    with pytest.raises(InvalidArgument) as caught:
        check_artifacts([job_pb2.Artifact()] * 33)
    assert caught.value.field == "artifacts"
