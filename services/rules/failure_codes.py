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
    """`sentence`: what happened, for a person who sees only the code.

    `advice`: what the user who waited should do, one or two sentences with a `{job}` for the job's id.
    """

    fault: Fault
    sentence: str
    advice: str
    exit_code: int

    def advise(self, job_id: str) -> str:
        """The advice for one job."""
        return self.advice.format(job=job_id)


def _input(sentence: str, advice: str) -> FailureCode:
    return FailureCode(Fault.INPUT, sentence, advice, BAD_INPUT)


def _ours(sentence: str, advice: str) -> FailureCode:
    return FailureCode(Fault.OURS, sentence, advice, INTERNAL)


def _operator(sentence: str, advice: str) -> FailureCode:
    return FailureCode(Fault.OPERATOR, sentence, advice, INTERNAL)


def _disruption(sentence: str, advice: str, exit_code: int = INTERNAL) -> FailureCode:
    return FailureCode(Fault.DISRUPTION, sentence, advice, exit_code)


_SEND_ANOTHER = "Send another video."
_SEND_AGAIN = "Send the video again."
_SHORTEN = "Cut the video to the action and send it again."
_REENCODE = "Save the video as MP4 (H.264) and send it again."
_SMALLER = "Save the video with smaller pictures, such as 1920x1080, and send it again."
_RETRY = "Run `crease retry {job}`."
_MORE_MEMORY = "Ask the operator for more memory for analyses, then run `crease retry {job}`."
_REPORT = "Report this fault of Crease with the job's id, {job}."

FAILURE_CODES: Mapping[str, FailureCode] = {
    # analyzer: the video
    "BAD_INPUT": _input("The video cannot be analysed.", _SEND_ANOTHER),
    "NOT_A_VIDEO": _input("The file is not a video that can be read.", _SEND_ANOTHER),
    "NO_VIDEO_STREAM": _input("The file has no moving pictures, only sound or still pictures.", _SEND_ANOTHER),
    "NOT_DECODABLE": _input("No picture of the video can be decoded.", _REENCODE),
    "CRASHED": _input("The video crashes the decoder.", _REENCODE),
    "TOO_SLOW": _input("The video takes too long to decode.", _REENCODE),
    "TOO_MUCH_MEMORY": _input("The video needs too much memory to decode.", _SMALLER),
    "TOO_MANY_PIXELS": _input("The video's pictures are too large.", _SMALLER),
    "TOO_MANY_FRAMES": _input("The video has too many frames.", _SHORTEN),
    "TOO_LONG": _input("The video lasts too long.", _SHORTEN),
    "EVENT_AFTER_END": _input("A given moment lies after the end of the video.", "Give a moment within the video."),
    "FILE_MISSING": _input("The video's file is missing.", _SEND_AGAIN),
    "FILE_EMPTY": _input("The video's file is empty.", _SEND_ANOTHER),
    "FILE_TOO_LARGE": _input("The video's file has too many bytes.", _SHORTEN),
    "DOWNLOAD_FAILED": _input("The stored video is not the one that was uploaded.", _SEND_AGAIN),
    # upload: the object in S3
    "VIDEO_MISSING": _input("No video was uploaded.", _SEND_AGAIN),
    "VIDEO_INCOMPLETE": _input("Parts of the video were not uploaded.", _SEND_AGAIN),
    "VIDEO_EMPTY": _input("The uploaded video is empty.", _SEND_ANOTHER),
    "VIDEO_TOO_LARGE": _input("The uploaded video has too many bytes.", _SHORTEN),
    "VIDEO_LENGTH_DIFFERS": _input("The uploaded video has another length than was promised.", _SEND_AGAIN),
    "VIDEO_CHECKSUM_DIFFERS": _input("The uploaded video has another checksum than was promised.", _SEND_AGAIN),
    "VIDEO_FORBIDDEN": _operator(
        "S3 does not let `upload` read the video.",
        "Ask the operator to let `upload` read the bucket, then send the video again.",
    ),
    # jobs and analyzer: the programs and where they run
    "UNEXPECTED": _ours("Crease failed on this video.", _REPORT),
    "REFUSED": _ours("A service rejected the analyzer's result.", _REPORT),
    "DEAD_LETTERED": _ours(
        "The analysis failed again and again for an unknown reason.",
        f"{_RETRY} If it fails again, report this fault of Crease.",
    ),
    "KILLED": _operator("Another process killed the decoder; probably memory ran out.", _MORE_MEMORY),
    "OUT_OF_MEMORY": _operator("The analysis needed more memory than its limit.", _MORE_MEMORY),
    "IMAGE": _operator(
        "The analyzer image lacks its pose model.",
        "Ask the operator to repair the analyzer image, then run `crease retry {job}`.",
    ),
    "DEADLINE": _operator(
        "The analysis exceeded its deadline.",
        "Ask the operator for a longer analysis deadline, then run `crease retry {job}`.",
    ),
    "UNSCHEDULABLE": _operator(
        "No node had room for the analysis.", "Ask the operator for room on the nodes, then run `crease retry {job}`."
    ),
    "DISRUPTED": _disruption("The analysis was disrupted.", _RETRY),
    "LEASE_LOST": _disruption("Another pod took over the analysis.", _RETRY, LEASE_LOST),
    "SERVICE_AWAY": _disruption("A service or S3 did not answer in time.", _RETRY, UNAVAILABLE),
    "UPLOAD_EXPIRED": _disruption("The video did not arrive in time.", _SEND_AGAIN),
}

# A code that the table lacks, of a newer server: the video is not blamed for it.
UNKNOWN = _ours("The job failed for a reason that this client does not know.", _REPORT)


def find(code: str) -> FailureCode:
    """The entry of a code; UNKNOWN for one that the table lacks."""
    return FAILURE_CODES.get(code, UNKNOWN)
