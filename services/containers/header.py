"""Reads what a container's header declares about its pictures: length, size, frames. Decodes nothing, needs no library.

    first bytes ─▶ mp4.py │ matroska.py │ avi ─▶ Header; None for a stream without a header (MPEG)

The client reads it before it sends a video; in a sandbox the analyzer compares it with what the file holds.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

from services.containers import matroska, mp4


@dataclass(frozen=True)
class Header:
    """The declared facts of the largest video track; 0 for each that the header omits."""

    has_video: bool
    seconds: float = 0.0
    width: int = 0
    height: int = 0
    frames: int = 0


def read(path: Path) -> Header | None:
    """The header of a file; None if it has none that can be read. Raises OSError."""
    with path.open("rb") as file:
        head = file.read(256)
    try:
        if head[4:8] in mp4.FIRST_BOXES:
            return _of_mp4(mp4.read(path))
        if head.startswith(matroska.EBML):
            return _of_matroska(matroska.read(path))
        if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
            return _of_avi(head)
    except (struct.error, ValueError, IndexError):
        return None
    return None


def _of_mp4(movie: mp4.Movie | None) -> Header | None:
    if movie is None:
        return None
    videos = [track for track in movie.tracks if track.is_video]
    if not videos:
        return Header(has_video=False)
    track = max(videos, key=lambda track: (track.is_enabled, track.width * track.height))
    return Header(True, track.shown_seconds, track.width, track.height, track.frames)


def _of_matroska(segment: matroska.Segment | None) -> Header | None:
    if segment is None:
        return None
    videos = [track for track in segment.tracks if track.is_video]
    if not videos:
        return Header(has_video=False)
    track = max(videos, key=lambda track: (track.is_default, track.width * track.height))
    return Header(True, segment.seconds, track.width, track.height)


def _of_avi(head: bytes) -> Header | None:
    """By the AVI main header, `avih`, of Microsoft's AVI RIFF File Reference."""
    at = head.find(b"avih")
    if at < 0:
        return None
    microseconds, _, _, _, frames, _, _, _, width, height = struct.unpack_from("<10I", head, at + 8)
    return Header(True, microseconds * frames / 1e6, width, height, frames)
