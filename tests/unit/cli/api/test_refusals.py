"""What a refusal, or a job that ended badly, means to the user."""

import grpc
import pytest

from crease.jobs.v1.job_pb2 import JOB_STATUS_CANCELLED, JOB_STATUS_FAILED, Job
from services import errors
from services.cli.api.client import meaning
from services.cli.commands.analyze import ended_badly
from services.cli.errors import AWAY, BAD_VIDEO, FAILED, USAGE
from testing.fakes.refusal import Refusal


@pytest.mark.parametrize(
    ("fault", "sentence", "exit_code"),
    [
        (errors.NotFound("Analysis job not found", reason="JOB_NOT_FOUND"), "Analysis job not found.", FAILED),
        (
            errors.PermissionDenied("You don't have access to this job", reason="X"),
            "You don't have access to this job.",
            FAILED,
        ),
        (errors.InvalidArgument("sample_fps", "must be 1 to 30"), "sample_fps: must be 1 to 30.", USAGE),
        (
            errors.Unauthenticated("The token is not valid"),
            "Your token was not accepted: The token is not valid.",
            FAILED,
        ),
    ],
)
def test_the_services_own_sentence_is_what_the_user_reads(
    fault: errors.ServiceError, sentence: str, exit_code: int
) -> None:
    """A refusal is shown in the words of the contract, with one full stop."""
    trouble = meaning(Refusal.of(fault))
    assert (trouble.sentence, trouble.exit_code) == (sentence, exit_code)


def test_a_service_that_is_away_is_named_without_the_words_of_the_channel() -> None:
    """Addresses and errno of a failed connection are for engineers; a service's own reason is kept."""
    channel = meaning(Refusal(grpc.StatusCode.UNAVAILABLE, "ipv4:127.0.0.1:1: Connection refused (111)"))
    service = meaning(Refusal.of(errors.Unavailable("S3 is slow", reason="S3_AWAY")))
    assert "ipv4" not in channel.sentence
    assert "(S3 is slow)" in service.sentence
    assert channel.exit_code == service.exit_code == AWAY


@pytest.mark.parametrize("code", list(grpc.StatusCode))
def test_every_code_becomes_a_sentence(code: grpc.StatusCode) -> None:
    """Whatever a server answers, the user reads a sentence that ends."""
    assert meaning(Refusal(code, "")).sentence.rstrip("?.") != ""


@pytest.mark.parametrize(
    ("code", "exit_code"), [("NOT_A_VIDEO", BAD_VIDEO), ("VIDEO_TOO_LONG", BAD_VIDEO), ("IMAGE", FAILED)]
)
def test_a_bad_video_has_its_own_exit_code(code: str, exit_code: int) -> None:
    """65 is for the video alone; what broke with us is 70. Either way the job's sentence is the message."""
    job = Job(job_id="j", status=JOB_STATUS_FAILED, failure_code=code, error_message="It has no pictures")
    trouble = ended_badly(job)
    assert (trouble.sentence, trouble.exit_code) == ("It has no pictures.", exit_code)


def test_a_cancelled_job_is_no_bad_video() -> None:
    """Somebody's decision is not the film's fault."""
    assert ended_badly(Job(job_id="j", status=JOB_STATUS_CANCELLED)).exit_code == FAILED
