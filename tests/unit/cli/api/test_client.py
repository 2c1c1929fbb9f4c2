"""The sentence and the exit code for a gRPC error and for a job that failed."""

import grpc
import pytest

from crease.jobs.v1.job_pb2 import JOB_STATUS_CANCELLED, JOB_STATUS_FAILED, Job
from crease_client.errors import Unavailable, from_rpc_error
from services import errors
from services.cli.api import client
from services.cli.commands import reports
from services.cli.errors import BAD_INPUT, INTERNAL, UNAVAILABLE, USAGE
from services.rules import failure_codes
from services.rules.exit_codes import LEASE_LOST
from testing.fakes.rpc_error import FakeRpcError


@pytest.mark.parametrize(
    ("fault", "sentence", "exit_code"),
    [
        (errors.NotFound("Analysis job not found", reason="JOB_NOT_FOUND"), "Analysis job not found.", INTERNAL),
        (
            errors.PermissionDenied("You don't have access to this job", reason="X"),
            "You don't have access to this job.",
            INTERNAL,
        ),
        (errors.InvalidArgument("sample_fps", "must be 1 to 30"), "sample_fps: must be 1 to 30.", USAGE),
        (
            errors.Unauthenticated("The token is not valid"),
            "The service rejected your token: The token is not valid.",
            INTERNAL,
        ),
    ],
)
def test_the_user_reads_the_services_own_message(fault: errors.ServiceError, sentence: str, exit_code: int) -> None:
    """An error is shown in the words of the contract, with one full stop."""
    error = client.to_command_error(from_rpc_error(FakeRpcError.of(fault)))
    assert (error.sentence, error.exit_code) == (sentence, exit_code)


def test_an_unavailable_service_is_named_without_the_channels_message() -> None:
    """Addresses and errno of a failed connection are for engineers; a service's own message is kept."""
    channel = client.to_command_error(Unavailable("ipv4:127.0.0.1:1: Connection refused (111)"))
    service = client.to_command_error(Unavailable("S3 is slow", reason="S3_AWAY"))
    assert "ipv4" not in channel.sentence
    assert "(S3 is slow)" in service.sentence
    assert channel.exit_code == service.exit_code == UNAVAILABLE


@pytest.mark.parametrize("code", list(grpc.StatusCode))
def test_every_code_becomes_a_sentence(code: grpc.StatusCode) -> None:
    """Every gRPC code yields a complete sentence."""
    assert client.to_command_error(from_rpc_error(FakeRpcError(code, ""))).sentence.rstrip("?.") != ""


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        ("NOT_A_VIDEO", BAD_INPUT),
        ("TOO_LONG", BAD_INPUT),
        ("IMAGE", INTERNAL),
        ("UNEXPECTED", INTERNAL),
        ("KILLED", INTERNAL),
        ("REFUSED", INTERNAL),
        ("DEADLINE", INTERNAL),
        ("VIDEO_FORBIDDEN", INTERNAL),
        ("OF_A_NEWER_SERVER", INTERNAL),
        ("SERVICE_AWAY", UNAVAILABLE),
        ("LEASE_LOST", LEASE_LOST),
    ],
)
def test_a_bad_video_has_its_own_exit_code(code: str, exit_code: int) -> None:
    """65 only if the video is at fault. The job's message comes first, then the advice of its failure code."""
    job = Job(job_id="j", status=JOB_STATUS_FAILED, failure_code=code, error_message="It has no pictures")
    error = reports.to_command_error(job)
    advice = failure_codes.find(code).advise("j")
    assert (error.sentence, error.exit_code) == (f"It has no pictures. {advice}", exit_code)


def test_a_cancelled_job_is_no_bad_video() -> None:
    """A cancellation says nothing about the video."""
    assert reports.to_command_error(Job(job_id="j", status=JOB_STATUS_CANCELLED)).exit_code == INTERNAL
