"""Which answers of S3 are retried."""

import pytest

from crease_client import s3_errors


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504])
def test_a_transient_status_needs_no_code(status: int) -> None:
    assert s3_errors.is_transient(status)


@pytest.mark.parametrize("status", [400, 403, 404, 412])
def test_another_status_is_transient_only_with_a_transient_code(status: int) -> None:
    assert not s3_errors.is_transient(status)
    assert s3_errors.is_transient(status, "RequestTimeout")


def test_an_answer_that_is_no_error_is_never_transient() -> None:
    """Whatever its body, which may be an artifact, looks like."""
    assert not s3_errors.is_transient(200, "RequestTimeout")


def test_the_error_document_gives_code_and_message() -> None:
    body = b"<?xml?><Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"
    assert s3_errors.error_fields(body) == {"Code": "SlowDown", "Message": "Reduce your request rate."}
    assert s3_errors.error_code(b"no XML") == ""
