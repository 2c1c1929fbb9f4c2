"""How an analysis can fail: a fault carries a code for programs, a sentence for people and the process's exit status.

Fault ── 70 anything else
  ├─ BadInput ──── 65 this video will never be analysed, however often it is tried
  ├─ ModelFault ── 70 the image was built without its model (code IMAGE)
  ├─ ServiceAway ─ 69 a service or S3 did not answer for as long as the lease lasted
  └─ LeaseLost ─── 75 another pod has this launch now, or it is over
"""

from services import exit_codes

DONE = exit_codes.OK


class Fault(Exception):
    """Something a person is told in one sentence, without a traceback."""

    exit_status = exit_codes.INTERNAL

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


class BadInput(Fault):
    """The video itself is at fault; the sentence names it."""

    exit_status = exit_codes.BAD_INPUT


class ModelFault(Fault):
    """There is no pinned pose model to work with."""

    def __init__(self, detail: str) -> None:
        super().__init__("IMAGE", f"Processing failed: MediaPipe model not initialized: {detail}")


class ServiceAway(Fault):
    """A service stayed away for too long."""

    exit_status = exit_codes.UNAVAILABLE

    def __init__(self, sentence: str) -> None:
        super().__init__("SERVICE_AWAY", sentence)


class LeaseLost(Fault):
    """The right to report for this launch is gone; whatever was found must not be published."""

    exit_status = exit_codes.LEASE_LOST

    def __init__(self, sentence: str) -> None:
        super().__init__("LEASE_LOST", sentence)
