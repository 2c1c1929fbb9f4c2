"""What a visitor reads where a call fails."""

from http import HTTPStatus

import grpc
import pytest

from services.clients import TRANSIENT
from services.web import faults
from testing.fakes.rpc_error import FakeRpcError


@pytest.mark.parametrize("code", grpc.StatusCode)
def test_each_status_of_a_call_has_a_sentence_for_people(code: grpc.StatusCode) -> None:
    """What may succeed later says so; its own words are gRPC's, as CANCELLED of a server that stops."""
    error = faults.of_call(FakeRpcError(code, code.name))
    is_later = error.status is HTTPStatus.SERVICE_UNAVAILABLE
    assert is_later == (code in TRANSIENT)
    assert is_later == ("Try again" in error.sentence)
    assert error.status >= HTTPStatus.BAD_REQUEST
