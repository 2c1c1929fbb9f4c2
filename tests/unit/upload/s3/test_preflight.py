"""Preflight: which problems of an uploaded object are permanent."""

from dataclasses import replace

import pytest

from crease.jobs.v1.job_pb2 import VideoObject
from services.upload.s3.preflight import RULES, ObservedObject, check

PROMISED = VideoObject(content_length=100, content_type="video/mp4", sha256="ab" * 32)
RIGHT = ObservedObject(200, content_length=100, content_type="video/mp4", etag="e", sha256="ab" * 32)
MOST = 1000


@pytest.mark.parametrize(
    ("observed", "code", "is_permanent"),
    [
        (ObservedObject(404), "VIDEO_MISSING", True),
        (ObservedObject(403), "VIDEO_FORBIDDEN", True),
        (replace(RIGHT, content_length=0), "VIDEO_EMPTY", True),
        (replace(RIGHT, content_length=1001), "VIDEO_TOO_LARGE", True),
        (replace(RIGHT, content_length=99), "VIDEO_LENGTH_DIFFERS", True),
        (replace(RIGHT, content_type="text/html"), "NOT_A_VIDEO", True),
        (replace(RIGHT, sha256="cd" * 32), "VIDEO_CHECKSUM_DIFFERS", True),
        (ObservedObject(403, code="AccessDenied"), "VIDEO_FORBIDDEN", True),
        (ObservedObject(403, code="RequestTimeTooSkewed"), "S3_AWAY", False),
        *((ObservedObject(status), "S3_AWAY", False) for status in (0, 301, 400, 408, 429, 500, 502, 503, 504)),
    ],
)
def test_each_problem_is_permanent_or_transient(observed: ObservedObject, code: str, is_permanent: bool) -> None:
    """Only a problem of the object fails the job; every other answer of S3 is transient."""
    problem = check(observed, PROMISED, MOST)
    assert problem is not None
    assert (problem.code, problem.is_permanent) == (code, is_permanent)
    assert problem.message.startswith("Upload verification failed: ")
    assert "{" not in problem.message


def test_every_rule_is_reached() -> None:
    """A rule hidden by an earlier one would never be reported."""
    reached = {
        problem.code
        for observed in (
            ObservedObject(404),
            ObservedObject(403),
            ObservedObject(503),
            replace(RIGHT, content_length=0),
            replace(RIGHT, content_length=1001),
            replace(RIGHT, content_length=99),
            replace(RIGHT, content_type="image/png"),
            replace(RIGHT, sha256="cd" * 32),
        )
        if (problem := check(observed, PROMISED, MOST))
    }
    assert reached == {rule.code for rule in RULES}


@pytest.mark.parametrize(
    "observed",
    [
        RIGHT,
        replace(RIGHT, sha256=""),
        replace(RIGHT, content_type="video/quicktime"),
        replace(RIGHT, content_type="application/octet-stream"),
        replace(RIGHT, content_type=""),
    ],
)
def test_the_promised_video_passes(observed: ObservedObject) -> None:
    """A missing type or checksum is no problem: the analyzer reads the file itself."""
    assert check(observed, PROMISED, MOST) is None


def test_no_checksum_promised_none_compared() -> None:
    """Without a promised SHA-256 there is nothing to compare."""
    assert check(RIGHT, VideoObject(content_length=100), MOST) is None
