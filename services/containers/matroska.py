"""Reads the length and the tracks of a Matroska or WebM file from the elements before its first cluster.

Elements: RFC 8794 (EBML) and RFC 9559 (Matroska). Numbers come from an untrusted file.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from services.containers.mp4 import DOLBY_VISION, dolby_profile

EBML = b"\x1a\x45\xdf\xa3"
# Info and Tracks stand before the first cluster.
MAX_HEAD_BYTES = 2**20
SEGMENT, INFO, TRACKS, CLUSTER, ENTRY = 0x18538067, 0x1549A966, 0x1654AE6B, 0x1F43B675, 0xAE
TIMESTAMP_SCALE, DURATION = 0x2AD7B1, 0x4489
TRACK_TYPE, FLAG_DEFAULT, VIDEO, PIXEL_WIDTH, PIXEL_HEIGHT = 0x83, 0x88, 0xE0, 0xB0, 0xBA
IS_VIDEO = 1
# The longest film that is accepted has fewer elements: a cluster or a block each.
MOST_ELEMENTS, HEADER_BYTES = 2_000_000, 12
# A configuration record of Dolby Vision in a track: its kind has the name of the same box of an MP4.
MAPPING, MAPPING_TYPE, MAPPING_DATA = 0x41E4, 0x41E7, 0x41ED


@dataclass(frozen=True)
class Track:
    """dolby_vision: the profile, 0 without."""

    is_video: bool
    is_default: bool
    width: int
    height: int
    dolby_vision: int


@dataclass(frozen=True)
class Segment:
    """seconds: 0 if the file declares no length."""

    seconds: float
    tracks: tuple[Track, ...]


def read(path: Path) -> Segment | None:
    """The first segment's header; None without its tracks. Raises ValueError or struct.error for a malformed one."""
    with path.open("rb") as file:
        head = file.read(MAX_HEAD_BYTES)
    for kind, content in _elements(head):
        if kind == SEGMENT:
            return _segment(content)
    return None


def find_cut(path: Path) -> str | None:
    """How a file is cut short, None if it is not. A recording of unknown length is searched to its last element."""
    size, at, end, is_inside = path.stat().st_size, 0, 0, False
    with path.open("rb") as file:
        for _ in range(MOST_ELEMENTS):
            if at >= size:
                break
            file.seek(at)
            header = file.read(HEADER_BYTES)
            if not header[0]:  # zeros after a segment of known length pad the file
                return "it ends in zeros" if is_inside else None
            try:
                kind, start = _number(header, 0, keep_marker=True)
                length, start = read_length(header, start)
            except ValueError:
                return "it ends in the middle of a segment" if is_inside or at + HEADER_BYTES > size else None
            is_inside = is_inside or (kind == SEGMENT and length is None)
            if length is None and kind not in (SEGMENT, CLUSTER):
                return None
            after = at + start + (length or 0)
            end = max(end, after)
            at = at + start if is_inside and kind in (SEGMENT, CLUSTER) else after
    return "it ends in the middle of a segment" if end > size else None


def _segment(content: bytes) -> Segment | None:
    seconds, tracks = 0.0, None
    for kind, element in _elements(content):
        if kind == CLUSTER:
            break
        if kind == INFO:
            values = dict(_elements(element))
            scale = _integer(values.get(TIMESTAMP_SCALE, b"")) or 1_000_000
            seconds = _float(values.get(DURATION, b"")) * scale / 1e9
        elif kind == TRACKS:
            tracks = tuple(_track(entry) for kind, entry in _elements(element) if kind == ENTRY)
    return None if tracks is None else Segment(seconds, tracks)


def _track(entry: bytes) -> Track:
    values = dict(_elements(entry))
    picture = dict(_elements(values.get(VIDEO, b"")))
    return Track(
        _integer(values.get(TRACK_TYPE, b"")) == IS_VIDEO,
        _integer(values.get(FLAG_DEFAULT, b"\1")) == 1,
        _integer(picture.get(PIXEL_WIDTH, b"")),
        _integer(picture.get(PIXEL_HEIGHT, b"")),
        max((_dolby_vision(mapping) for kind, mapping in _elements(entry) if kind == MAPPING), default=0),
    )


def _dolby_vision(mapping: bytes) -> int:
    values = dict(_elements(mapping))
    is_dolby = values.get(MAPPING_TYPE, b"").lstrip(b"\0") in DOLBY_VISION
    return dolby_profile(values.get(MAPPING_DATA, b"")) if is_dolby else 0


def _elements(content: bytes) -> Iterator[tuple[int, bytes]]:
    """(id, content) of each element; the last one may be cut short or of unknown length."""
    at = 0
    while at < len(content):
        kind, at = _number(content, at, keep_marker=True)
        length, start = read_length(content, at)
        at = len(content) if length is None else start + length
        yield kind, content[start:at]


def read_length(content: bytes, at: int) -> tuple[int | None, int]:
    """An element's length, None if unknown, and where its content begins. Raises ValueError."""
    length, start = _number(content, at)
    return (None if length == (1 << 7 * (start - at)) - 1 else length), start


def _number(content: bytes, at: int, *, keep_marker: bool = False) -> tuple[int, int]:
    """A number of variable width, and where it ends."""
    if at >= len(content) or not content[at]:
        raise ValueError("not an EBML number")
    width = 9 - content[at].bit_length()
    value = int.from_bytes(content[at : at + width], "big")
    return (value if keep_marker else value & ((1 << 7 * width) - 1)), at + width


def _integer(content: bytes) -> int:
    return int.from_bytes(content[:8], "big")


def _float(content: bytes) -> float:
    if len(content) not in (4, 8):
        return 0.0
    value = struct.unpack(">f" if len(content) == 4 else ">d", content)[0]
    return float(value) if 0 <= value < 1e15 else 0.0
