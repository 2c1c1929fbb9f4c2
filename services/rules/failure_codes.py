"""The failure codes of jobs: whose fault each one is, what to do, and the exit code of a client that waited.

fault        exit code                             a retry of the same job
input        65                                    fails again: the video is at fault
ours         70                                    fails again until Crease is repaired
operator     70                                    succeeds after a repair of the installation
disruption   70, SERVICE_AWAY 69, LEASE_LOST 75    succeeds unless it is disrupted again
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from services.rules.exit_codes import BAD_INPUT, INTERNAL, LEASE_LOST, UNAVAILABLE


class Fault(StrEnum):
    """Whose fault a failure is."""

    INPUT = "input"
    OURS = "ours"
    OPERATOR = "operator"
    DISRUPTION = "disruption"


@dataclass(frozen=True)
class FailureCode:
    """`advice`: what the user who waited should do, one or two sentences with a `{job}` for the job's id."""

    fault: Fault
    advice: str
    exit_code: int

    def advise(self, job_id: str) -> str:
        """The advice for one job."""
        return self.advice.format(job=job_id)


def _input(advice: str) -> FailureCode:
    return FailureCode(Fault.INPUT, advice, BAD_INPUT)


def _ours(advice: str) -> FailureCode:
    return FailureCode(Fault.OURS, advice, INTERNAL)


def _operator(advice: str) -> FailureCode:
    return FailureCode(Fault.OPERATOR, advice, INTERNAL)


def _disruption(advice: str, exit_code: int = INTERNAL) -> FailureCode:
    return FailureCode(Fault.DISRUPTION, advice, exit_code)


_SEND_ANOTHER = "Send another video."
_SEND_AGAIN = "Send the video again."
_SHORTEN = "Cut the video to the action and send it again."
_REENCODE = "Save the video as MP4 (H.264) and send it again."
_RETRY = "Run `crease retry {job}`."
_MORE_MEMORY = "Ask the operator for more memory for analyses, then run `crease retry {job}`."
_REPORT = "Report this fault of Crease with the job's id, {job}."

FAILURE_CODES: Mapping[str, FailureCode] = {
    # analyzer: the video
    "BAD_INPUT": _input(_SEND_ANOTHER),
    "NOT_A_VIDEO": _input(_SEND_ANOTHER),
    "NO_VIDEO_STREAM": _input(_SEND_ANOTHER),
    "NOT_DECODABLE": _input(_REENCODE),
    "CRASHED": _input(_REENCODE),
    "TOO_SLOW": _input(_REENCODE),
    "TOO_MANY_PIXELS": _input("Save the video with smaller pictures and send it again."),
    "TOO_MANY_FRAMES": _input(_SHORTEN),
    "TOO_LONG": _input(_SHORTEN),
    "EVENT_AFTER_END": _input("Give a moment within the video."),
    "FILE_MISSING": _input(_SEND_AGAIN),
    "FILE_EMPTY": _input(_SEND_ANOTHER),
    "FILE_TOO_LARGE": _input(_SHORTEN),
    "DOWNLOAD_FAILED": _input(_SEND_AGAIN),
    # upload: the object in S3
    "VIDEO_MISSING": _input(_SEND_AGAIN),
    "VIDEO_INCOMPLETE": _input(_SEND_AGAIN),
    "VIDEO_EMPTY": _input(_SEND_ANOTHER),
    "VIDEO_TOO_LARGE": _input(_SHORTEN),
    "VIDEO_LENGTH_DIFFERS": _input(_SEND_AGAIN),
    "VIDEO_CHECKSUM_DIFFERS": _input(_SEND_AGAIN),
    "VIDEO_FORBIDDEN": _operator("Ask the operator to let `upload` read the bucket, then send the video again."),
    # jobs and analyzer: the programs and where they run
    "UNEXPECTED": _ours(_REPORT),
    "REFUSED": _ours(_REPORT),
    "DEAD_LETTERED": _ours(f"{_RETRY} If it fails again, report this fault of Crease."),
    "KILLED": _operator(_MORE_MEMORY),
    "OUT_OF_MEMORY": _operator(_MORE_MEMORY),
    "IMAGE": _operator("Ask the operator to repair the analyzer image, then run `crease retry {job}`."),
    "DEADLINE": _operator("Ask the operator for a longer analysis deadline, then run `crease retry {job}`."),
    "UNSCHEDULABLE": _operator("Ask the operator for room on the nodes, then run `crease retry {job}`."),
    "DISRUPTED": _disruption(_RETRY),
    "LEASE_LOST": _disruption(_RETRY, LEASE_LOST),
    "SERVICE_AWAY": _disruption(_RETRY, UNAVAILABLE),
    "UPLOAD_EXPIRED": _disruption(_SEND_AGAIN),
}

# A code that the table lacks, of a newer server: the video is not blamed for it.
UNKNOWN = _ours(_REPORT)


def find(code: str) -> FailureCode:
    """The entry of a code; UNKNOWN for one that the table lacks."""
    return FAILURE_CODES.get(code, UNKNOWN)
