"""Parses Kubernetes quantities: 2Gi of memory, 500m of a core."""

import math
import re

SUFFIXES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
BYTES = re.compile(r"(\d+(?:\.\d+)?)(k|M|G|T|Ki|Mi|Gi|Ti)?")
CORES = re.compile(r"(\d+)m|(\d+(?:\.\d{1,3})?)")


def bytes_of(text: str) -> int:
    """A quantity in bytes, rounded up. Raises ValueError if it is invalid or zero."""
    found = BYTES.fullmatch(text)
    size = float(found[1]) * SUFFIXES[found[2] or ""] if found else 0
    if not size:
        raise ValueError(f"{text!r} is not a number of bytes, such as 512Mi or 2Gi")
    return math.ceil(size)


def cores_of(text: str) -> float:
    """A quantity in cores. Raises ValueError if it is invalid or zero."""
    found = CORES.fullmatch(text)
    cores = (int(found[1]) / 1000 if found[1] else float(found[2])) if found else 0.0
    if not cores:
        raise ValueError(f"{text!r} is not a number of cores, such as 2 or 500m")
    return cores


def mebibytes(size: float) -> str:
    """Bytes as a quantity in mebibytes, rounded up."""
    return f"{math.ceil(size / 2**20)}Mi"
