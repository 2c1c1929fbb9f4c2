"""The judgement of an upload."""

from dataclasses import replace

import pytest

from crease.jobs.v1.job_pb2 import VideoObject
from services.upload.s3.preflight import TABLE, Seen, judge

PROMISED = VideoObject(content_length=100, content_type="video/mp4", sha256="ab" * 32)
RIGHT = Seen(200, content_length=100, content_type="video/mp4", etag="e", sha256="ab" * 32)
MOST = 1000


@pytest.mark.parametrize(
    ("seen", "code", "is_definite"),
    [
        (Seen(404), "VIDEO_MISSING", True),
        (Seen(403), "VIDEO_FORBIDDEN", True),
        (replace(RIGHT, content_length=0), "VIDEO_EMPTY", True),
        (replace(RIGHT, content_length=1001), "VIDEO_TOO_LARGE", True),
        (replace(RIGHT, content_length=99), "VIDEO_LENGTH_DIFFERS", True),
        (replace(RIGHT, content_type="text/html"), "NOT_A_VIDEO", True),
        (replace(RIGHT, sha256="cd" * 32), "VIDEO_CHECKSUM_DIFFERS", True),
        (Seen(403, code="AccessDenied"), "VIDEO_FORBIDDEN", True),
        (Seen(403, code="RequestTimeTooSkewed"), "S3_AWAY", False),
        *((Seen(status), "S3_AWAY", False) for status in (0, 301, 400, 408, 429, 500, 502, 503, 504)),
    ],
)
def test_each_fault_is_definite_or_passing_and_says_so(seen: Seen, code: str, is_definite: bool) -> None:
    """Only what is certain of the object fails a job; whatever else S3 answers passes."""
    finding = judge(seen, PROMISED, MOST)
    assert finding is not None
    assert (finding.code, finding.is_definite) == (code, is_definite)
    assert finding.message.startswith("Upload verification failed: ")
    assert "{" not in finding.message


def test_every_row_of_the_table_is_reached() -> None:
    """A row that another hides would be a fault nobody is ever told."""
    reached = {
        judge(seen, PROMISED, MOST).code  # type: ignore[union-attr]
        for seen in (
            Seen(404),
            Seen(403),
            Seen(503),
            replace(RIGHT, content_length=0),
            replace(RIGHT, content_length=1001),
            replace(RIGHT, content_length=99),
            replace(RIGHT, content_type="image/png"),
            replace(RIGHT, sha256="cd" * 32),
        )
    }
    assert reached == {row[0] for row in TABLE}


@pytest.mark.parametrize(
    "seen",
    [
        RIGHT,
        replace(RIGHT, sha256=""),
        replace(RIGHT, content_type="video/quicktime"),
        replace(RIGHT, content_type="application/octet-stream"),
        replace(RIGHT, content_type=""),
    ],
)
def test_the_promised_video_passes(seen: Seen) -> None:
    """A server that forgets the type or the checksum says nothing against the video; the analyzer looks inside."""
    assert judge(seen, PROMISED, MOST) is None


def test_no_checksum_promised_none_compared() -> None:
    """A client that gave no SHA-256 is held to none."""
    assert judge(RIGHT, VideoObject(content_length=100), MOST) is None
