"""Reads what a container's header declares about its pictures: length, size, frames. Decodes nothing, needs no library.

    first bytes ─▶ mp4.py │ matroska.py │ avi.py ─▶ Header; None for a stream without a header (MPEG)

The client reads it before it sends a video, where no analyzer is installed.
"""

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from services.containers import avi, matroska, mp4

Track = TypeVar("Track", mp4.Track, matroska.Track)


@dataclass(frozen=True)
class Header:
    """The declared facts of the video track that a player shows; 0 for each that the header omits.

    dolby_vision: the profile, 0 without. has_index: false for an MP4 that was cut before its index.
    """

    has_video: bool
    seconds: float = 0.0
    width: int = 0
    height: int = 0
    frames: int = 0
    dolby_vision: int = 0
    has_index: bool = True


def read(path: Path) -> Header | None:
    """The header of a file; None if it has none that can be read. Raises OSError."""
    with path.open("rb") as file:
        head = file.read(256)
    try:
        if head[4:8] in mp4.FIRST_BOXES:
            movie = mp4.read(path)
            return _of_mp4(movie) if movie else Header(has_video=False, has_index=False)
        if head.startswith(matroska.EBML):
            segment = matroska.read(path)
            return _of_matroska(segment) if segment else None
        if avi.is_avi(head):
            recording = avi.read(path)
            return _of_avi(recording) if recording else None
    except (struct.error, ValueError, IndexError):
        return None
    return None


def _of_mp4(movie: mp4.Movie) -> Header:
    track = _shown_video(movie.tracks, lambda track: (track.frames != 1, track.is_enabled))
    if track is None:
        return Header(has_video=False)
    return Header(True, track.shown_seconds, track.width, track.height, track.frames, track.dolby_vision)


def _of_matroska(segment: matroska.Segment) -> Header:
    track = _shown_video(segment.tracks, lambda track: track.is_default)
    if track is None:
        return Header(has_video=False)
    return Header(True, segment.seconds, track.width, track.height, dolby_vision=track.dolby_vision)


def _shown_video(tracks: Iterable[Track], preference: Callable[[Track], object]) -> Track | None:
    """The video track that a player shows: of the preferred ones the largest; None without video."""
    videos = [track for track in tracks if track.is_video]
    return max(videos, key=lambda track: (preference(track), track.width * track.height), default=None)


def _of_avi(recording: avi.Recording) -> Header:
    return Header(True, recording.seconds, recording.width, recording.height, recording.frames)
