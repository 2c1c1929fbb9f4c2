"""Classifies how an analysis fails: a fault has a code for programs, a message for people and an exit status.

Fault ── 70 any other failure
  ├─ BadInput ─────────── 65 this video can never be analysed; a retry does not help
  ├─ ModelFault ───────── 70 the image was built without its model (code IMAGE)
  ├─ ServiceUnavailable ─ 69 a service or S3 did not answer until the lease ended
  └─ LeaseLost ────────── 75 another pod has this launch now, or the launch has ended
"""

from services.rules import exit_codes
from services.rules.printable import one_line

DONE = exit_codes.OK


class Fault(Exception):
    """A failure that is shown to a person as one sentence, without a traceback."""

    exit_status = exit_codes.INTERNAL

    def __init__(self, code: str, message: str) -> None:
        # It often begins with a file's name.
        message = one_line(message)
        super().__init__(message)
        self.code = code
        self.message = message


class BadInput(Fault):
    """The video itself is at fault; the message names it."""

    exit_status = exit_codes.BAD_INPUT


class ModelFault(Fault):
    """The pinned pose model is missing or is another file."""

    def __init__(self, detail: str) -> None:
        super().__init__("IMAGE", f"Processing failed: MediaPipe model not initialized: {detail}")


class ServiceUnavailable(Fault):
    """A service did not answer in time."""

    exit_status = exit_codes.UNAVAILABLE

    def __init__(self, message: str) -> None:
        super().__init__("SERVICE_AWAY", message)


class LeaseLost(Fault):
    """This process may no longer report for its launch, so it must not publish any result."""

    exit_status = exit_codes.LEASE_LOST

    def __init__(self, message: str) -> None:
        super().__init__("LEASE_LOST", message)
