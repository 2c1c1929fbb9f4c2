"""Which answers of S3 are transient: client, analyzer and upload retry the same ones.

Sources: Amazon S3 API reference, "Error responses"; RFC 9110 (408), RFC 8470 (425), RFC 6585 (429).
"""

import re

# An error document is shorter than this.
MAX_ERROR_BYTES = 4096
# 409 is a conflicting conditional operation: S3 asks to retry it.
TRANSIENT_STATUSES = frozenset({408, 409, 425, 429})
# S3 sends them with a status that is definite otherwise: 400 RequestTimeout, 403 RequestTimeTooSkewed.
TRANSIENT_CODES = frozenset({"RequestTimeout", "RequestTimeTooSkewed", "SlowDown", "Throttling", "OperationAborted"})
_FIELD = re.compile(r"<(Code|Message)>([^<]*)</")


def is_transient(status: int, code: str = "") -> bool:
    """Whether the same request may succeed later. `code` is S3's error code; empty where the answer has none."""
    return status >= 500 or status in TRANSIENT_STATUSES or (status >= 400 and code in TRANSIENT_CODES)


def error_code(body: bytes) -> str:
    """The error code in S3's XML error document; empty where there is none."""
    return error_fields(body).get("Code", "")


def error_fields(body: bytes) -> dict[str, str]:
    """`Code` and `Message` of S3's XML error document, where it has them."""
    return dict(_FIELD.findall(body[:MAX_ERROR_BYTES].decode(errors="replace")))


def describe_reply(status: int, body: bytes) -> str:
    """The status, and the code and message of S3's XML error, as one phrase."""
    found = error_fields(body)
    return " ".join(filter(None, (str(status), found.get("Code", ""), found.get("Message", "").rstrip("."))))
