"""Fields of log lines, and the secrets that are removed from them."""

import contextvars

import pytest

from services import logs

URL = "https://s3.example.com/videos/k.mp4"
QUERY = "?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=5d4f&X-Amz-Expires=60"
TOKEN = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJjb2FjaC0xIn0.c2lnbmF0dXJl-_x"
JOB = "0d5e0bd6-6c5c-4a44-bd3f-6a8f3b7a1c11"


@pytest.mark.parametrize(
    ("line", "redacted"),
    [
        (f'{{"error": "no answer from {URL}{QUERY}"}}', f'{{"error": "no answer from {URL}?…"}}'),
        (f"{URL}?versionId=7&{QUERY[1:]} was refused", f"{URL}?… was refused"),
        (f"authorization: Bearer {TOKEN}", "authorization: Bearer …"),
        ("authorization: Lease 0123456789abcdefghij-_", "authorization: Lease …"),
        (f"{URL}?versionId=7 of eyJ and a Lease held", f"{URL}?versionId=7 of eyJ and a Lease held"),
    ],
)
def test_a_signature_or_a_token_in_a_line_is_left_out(line: str, redacted: str) -> None:
    """The rest of the line stays unchanged."""
    assert logs.redact(None, "", line) == redacted


def test_only_a_uuid_is_logged_as_a_job_s_id() -> None:
    """A caller's text sent as an id is never logged."""

    def bind() -> None:
        logs.bind_job("eyJ-somebody's secret")
        assert "job_id" not in logs.bound()
        logs.bind_job(JOB, 2)
        assert logs.bound() == {"job_id": JOB, "launch_no": 2}

    contextvars.Context().run(bind)


def test_durations_are_summed_up_for_one_line() -> None:
    """In milliseconds; without a line to write, durations are dropped."""
    logs.add_duration("db_ms", 1.0)
    with logs.collecting_durations() as durations:
        logs.add_duration("db_ms", 0.002)
        logs.add_duration("db_ms", 0.003)
        logs.add_duration("s3_ms", 0.1)
    assert durations == {"db_ms": 5.0, "s3_ms": 100.0}


def test_an_error_without_a_message_is_logged_by_its_class() -> None:
    """A TimeoutError has no message."""
    assert logs.error_text(TimeoutError()) == "TimeoutError"
    assert logs.error_text(OSError("no route\nto the host")) == "no route"
