"""Errors as callers see them."""

import pytest
from google.rpc import code_pb2, error_details_pb2

from services import errors, serving


def test_every_class_of_error_has_a_status() -> None:
    """A new class without a status fails here."""
    assert set(serving.CODES) == set(errors.ServiceError.__subclasses__())


def test_an_invalid_field_is_named_in_a_bad_request() -> None:
    """AIP-193: always ErrorInfo; BadRequest for a wrong field."""
    status = serving.status(errors.InvalidArgument("sample_fps", "must be 1 to 30"))
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(bad)
    assert (status.code, status.message) == (code_pb2.INVALID_ARGUMENT, "sample_fps: must be 1 to 30")
    assert (info.reason, info.domain, bad.field_violations[0].field) == ("INVALID_FIELD", "crease.dev", "sample_fps")


@pytest.mark.parametrize("seconds", [0.0, 0.5, 1.0, 2.25])
def test_an_unavailable_error_has_a_retry_delay(seconds: float) -> None:
    """RetryInfo carries the delay exactly."""
    retry = error_details_pb2.RetryInfo()
    status = serving.status(errors.Unavailable("S3 is slow", reason="S3_AWAY", retry_seconds=seconds))
    assert status.details[1].Unpack(retry)
    assert retry.retry_delay.ToNanoseconds() == seconds * 1e9
