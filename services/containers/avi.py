"""Reads the main header of an AVI file, and where its first recording ends.

Formats: Microsoft's AVI RIFF File Reference, and OpenDML.
A large recording continues in further RIFF chunks of the type `AVIX`; another one of the type `AVI ` was joined to it.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

# The main header stands within these bytes.
HEAD_BYTES = 256
# A recording of the largest accepted size has a tenth of these chunks.
MOST_CHUNKS = 1000


@dataclass(frozen=True)
class Recording:
    """The first recording of a file. end: in bytes; the file's size if no other one follows."""

    seconds: float
    width: int
    height: int
    frames: int
    end: int
    has_another: bool


def is_avi(head: bytes) -> bool:
    return head.startswith(b"RIFF") and head[8:12] == b"AVI "


def read(path: Path) -> Recording | None:
    """The first recording; None if the file is no AVI or has no main header. Raises struct.error or OSError."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        at = head.find(b"avih")
        if not is_avi(head) or at < 0:
            return None
        microseconds, _, _, _, frames, _, _, _, width, height = struct.unpack_from("<10I", head, at + 8)
        end, has_another = 0, False
        for _ in range(MOST_CHUNKS):
            file.seek(end)
            chunk = file.read(12)
            has_another = bool(end) and is_avi(chunk)
            if has_another or not chunk.startswith(b"RIFF"):
                break
            length = struct.unpack_from("<I", chunk, 4)[0]
            end += 8 + length + length % 2
    return Recording(microseconds * frames / 1e6, width, height, frames, end if has_another else size, has_another)
