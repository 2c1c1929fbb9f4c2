"""Reads the movie box of an MP4 or QuickTime file: tracks, edit lists, and whether its index fits the file.

Boxes: ISO/IEC 14496-12, and the QuickTime File Format. Numbers come from an untrusted file: each is checked or bounded.
"""

import io
import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

FIRST_BOXES = frozenset({b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp", b"uuid"})
# The index of the longest accepted video is a tenth of this.
MAX_MOVIE_BYTES = 64 * 2**20
TRACK_ENABLED = 1
# Media data after the last indexed sample, in bytes and as a share, from which the index is incomplete.
UNINDEXED_BYTES, UNINDEXED_SHARE = 16_384, 0.05
# `stbl` in `minf` in `mdia`: the boxes of a track that hold tables. A malicious file may nest them without end.
TABLE_DEPTH = 3
# Where the boxes of the first sample entry of a video's `stsd` begin: after the entry's own fields.
ENTRY, ENTRY_BOXES = 8, 94
# Types of the box that declares Dolby Vision.
DOLBY_VISION = (b"dvcC", b"dvvC")
# An index with more edits is a broken or hostile one: each packet is compared with all of them.
MOST_EDITS = 1000
# Two declared lengths may differ by this, and by as many of the longest frames, each taken as a second at most.
SLACK_SECONDS, SLACK_FRAMES = 0.05, 2
# The boxes of one track that hold numbers, by their type; empty for one that is missing.
_Tables = defaultdict[bytes, bytes]


@dataclass(frozen=True)
class Edit:
    """A stretch of the movie's clock: `media_start` seconds of the media from `start` on, at `rate`; None: empty.

    rate: 0 shows one picture all the time. seconds: 0 lasts to the end of the media.
    """

    start: float
    seconds: float
    media_start: float | None
    rate: float


@dataclass(frozen=True)
class Track:
    """One track. number: the file's own.

    seconds: of the media by its samples, longest_step: of one of them. declared_seconds: by the media's header;
    header_seconds: by the track's. frames, timed_frames, placed_frames: samples with a size, a time, a place in the
    file. end: of the last sample, in bytes. dolby_vision: the profile, 0 without.
    """

    number: int = 0
    kind: bytes = b""
    is_enabled: bool = True
    width: int = 0
    height: int = 0
    seconds: float = 0.0
    longest_step: float = 0.0
    declared_seconds: float = 0.0
    header_seconds: float = 0.0
    frames: int = 0
    timed_frames: int = 0
    placed_frames: int = 0
    end: int = 0
    edits: tuple[Edit, ...] = ()
    dolby_vision: int = 0

    @property
    def is_video(self) -> bool:
        return self.kind == b"vide"

    @property
    def shown_seconds(self) -> float:
        """How long a player shows the track."""
        if self.edits:
            return sum(edit.seconds or self.declared_seconds for edit in self.edits)
        return self.declared_seconds

    @property
    def played_seconds(self) -> float:
        """How long a player shows pictures, without the empty edits before them; 0 if unknown."""
        if not self.edits:
            return self.declared_seconds
        media = [self._seconds(edit) for edit in self.edits if edit.media_start is not None]
        return sum(media) if all(media) else 0.0

    def _seconds(self, edit: Edit) -> float:
        """How long an edit lasts; 0 if it lasts to the end of fragments."""
        return edit.seconds or max(self.seconds - (edit.media_start or 0), 0.0) / (edit.rate or 1.0)

    @property
    def cuts(self) -> tuple[float, ...]:
        """Where an edit continues with another part of the media, in seconds of the movie."""
        media = [edit for edit in self.edits if edit.media_start is not None]
        return tuple(
            after.start
            for edit, after in pairwise(media)
            if abs((edit.media_start or 0) + edit.seconds * edit.rate - (after.media_start or 0)) > SLACK_SECONDS
            or after.start - edit.start - edit.seconds > SLACK_SECONDS
        )

    @property
    def is_trimmed(self) -> bool:
        """Whether the edit list hides some of the media."""
        shown = sum(self._seconds(edit) * edit.rate for edit in self.edits if edit.media_start is not None)
        return bool(self.edits) and shown + SLACK_SECONDS < self.seconds

    @property
    def is_scaled(self) -> bool:
        """Whether the edit list shows some of the media faster or slower than it was recorded."""
        return any(edit.media_start is not None and edit.rate != 1.0 for edit in self.edits)

    @property
    def needs_own_clock(self) -> bool:
        """Whether FFmpeg shows the edit list otherwise than a player.

        FFmpeg ignores speeds, fills a gap with earlier frames, shows nothing of an edit that lasts to the end, and
        begins each further part up to a frame late. Parts that show a frame twice are left to it.
        """
        media = [edit for edit in self.edits if edit.media_start is not None]
        is_forward = all(
            (after.media_start or 0) + SLACK_SECONDS > (edit.media_start or 0) + edit.seconds * edit.rate
            for edit, after in pairwise(media)
        )
        is_in_parts = len(media) > 1 and is_forward
        return len(self.edits) <= MOST_EDITS and (self.is_scaled or is_in_parts or not all(e.seconds for e in media))


@dataclass(frozen=True)
class Movie:
    """The first movie box of a file. recordings: how many movie boxes the file has. media_end: of the last `mdat`.

    ends_in_zeros: whether zeros stand where the next box would begin.
    """

    tracks: tuple[Track, ...]
    is_fragmented: bool
    recordings: int
    media_bytes: int
    media_end: int
    size: int
    ends_in_zeros: bool

    def fault(self, track: Track) -> str | None:
        """How the index contradicts itself or the file, None if it does not. Says nothing of fragments."""
        if self.is_fragmented or self.recordings > 1:
            return None
        if track.end > self.size:
            return f"the file ends {track.end - self.size} bytes before its last frame"
        if not track.frames == track.timed_frames == track.placed_frames:
            counts = f"{track.frames} sizes, {track.timed_frames} times and {track.placed_frames} places"
            return f"its index has {counts} of frames"
        slack = SLACK_SECONDS + SLACK_FRAMES * min(track.longest_step, 1.0)
        if track.declared_seconds > track.seconds + slack:
            return f"its index ends at {track.seconds:.2f} s of the {track.declared_seconds:.2f} s it declares"
        if track.header_seconds > track.shown_seconds + slack:
            return f"its edit list shows {track.shown_seconds:.2f} s of the {track.header_seconds:.2f} s it declares"
        # No program cuts a film to less than a frame: the edit list or its clock is damaged.
        if track.edits and 0 < 2 * track.frames * track.played_seconds < track.seconds:
            return f"its edit list shows {track.played_seconds:.6f} s, less than a frame"
        unindexed = self.media_end - max(track.end for track in self.tracks)
        if unindexed > max(UNINDEXED_BYTES, UNINDEXED_SHARE * self.media_bytes):
            return f"its index leaves out the last {unindexed} of {self.media_bytes} bytes of media"
        return None


def read(path: Path) -> Movie | None:
    """The movie of a file; None without a movie box. Raises struct.error or ValueError for a malformed one."""
    size = path.stat().st_size
    movie: bytes | None = None
    recordings = media_bytes = media_end = 0
    has_fragments = ends_in_zeros = False
    with path.open("rb") as file:
        for kind, start, end in boxes(file, 0, size):
            if kind == b"moov":
                recordings += 1
                if movie is None:
                    file.seek(start)
                    movie = file.read(min(end - start, MAX_MOVIE_BYTES))
            elif kind == b"mdat" and recordings <= 1:
                media_end = max(media_end, min(end, size))
                media_bytes += min(end, size) - start
            has_fragments = has_fragments or kind == b"moof"
            ends_in_zeros = kind == bytes(4)
    if movie is None:
        return None
    tracks, declares_fragments = _read_movie(movie)
    return Movie(tracks, has_fragments or declares_fragments, recordings, media_bytes, media_end, size, ends_in_zeros)


def boxes(file: BinaryIO, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(type, start of its content, end) of each box; the last may end after `end`. Stops at trailing data."""
    while at + 8 <= end:
        file.seek(at)
        header = file.read(16).ljust(16, b"\0")
        length, kind, large = struct.unpack(">I4sQ", header)
        start = at + (16 if length == 1 else 8)
        length = large if length == 1 else length or end - at
        if at + length < start:
            return
        yield kind, start, at + length
        at += length


def _read_movie(content: bytes) -> tuple[tuple[Track, ...], bool]:
    """The tracks of a `moov`, and whether it declares fragments."""
    clock, tracks, declares_fragments = 1, [], False
    for kind, box in _children(content):
        if kind == b"mvhd":
            clock = _clock(box)[0]
        elif kind == b"mvex":
            declares_fragments = True
        elif kind == b"trak":
            tables = _Tables(bytes)
            _collect(box, tables, TABLE_DEPTH)
            tracks.append(tables)
    return tuple(_track(tables, clock) for tables in tracks), declares_fragments


def _children(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    for kind, start, end in boxes(io.BytesIO(content), 0, len(content)):
        yield kind, content[start:end]


def _collect(content: bytes, tables: _Tables, depth: int) -> None:
    for kind, box in _children(content):
        if depth and kind in (b"mdia", b"minf", b"stbl", b"edts"):
            _collect(box, tables, depth - 1)
        else:
            tables.setdefault(kind, box)


def _track(tables: _Tables, movie_clock: int) -> Track:
    clock, declared = _clock(tables[b"mdhd"])
    kind = tables[b"hdlr"][8:12]
    width = height = 0
    if kind == b"vide" and len(tables[b"stsd"]) >= 44:
        width, height = struct.unpack_from(">HH", tables[b"stsd"], 40)
    timed, ticks, longest = _times(tables[b"stts"])
    frames, placed, end = _places(tables)
    enabled = bool(tables[b"tkhd"][:4] and tables[b"tkhd"][3] & TRACK_ENABLED)
    number, header = _track_header(tables[b"tkhd"], movie_clock)
    edits = tuple(_edits(tables[b"elst"], movie_clock, clock))
    return Track(number, kind, enabled, width, height, ticks / clock, longest / clock, declared / clock,
                 header, frames, timed, placed, end, edits, _dolby_vision(tables[b"stsd"]))  # fmt: skip


def _dolby_vision(box: bytes) -> int:
    """The profile of Dolby Vision in the first sample entry of a `stsd`, 0 without: Dolby Vision Streams, 3.2."""
    entry = box[ENTRY_BOXES : ENTRY + _count(box, ENTRY)]
    return next((dolby_profile(dolby) for kind, dolby in _children(entry) if kind in DOLBY_VISION), 0)


def dolby_profile(configuration: bytes) -> int:
    """The profile in a configuration record of Dolby Vision, 0 if it is cut short."""
    return configuration[2] >> 1 if len(configuration) > 2 else 0


def _clock(box: bytes) -> tuple[int, int]:
    """Ticks a second and the length in ticks of a `mvhd` or `mdhd`; a length of all ones means unknown."""
    wide = box[:1] == b"\1"
    clock, length = struct.unpack_from(">IQ" if wide else ">II", box, 20 if wide else 12)
    unknown = (1 << (64 if wide else 32)) - 1
    return max(clock, 1), 0 if length == unknown else length


def _track_header(box: bytes, clock: int) -> tuple[int, float]:
    """The number and the length in seconds of a `tkhd`."""
    wide = box[:1] == b"\1"
    number, _, length = struct.unpack_from(">IIQ" if wide else ">III", box, 20 if wide else 12)
    return number, 0.0 if length == (1 << (64 if wide else 32)) - 1 else length / clock


def _times(box: bytes) -> tuple[int, int, int]:
    """How many samples `stts` times, their ticks in all, and those of the longest."""
    counts = _numbers(box, 8)
    pairs = list(zip(counts[::2], counts[1::2], strict=False))[: _count(box, 4)]
    longest = max((ticks for _, ticks in pairs), default=0)
    return sum(count for count, _ in pairs), sum(count * ticks for count, ticks in pairs), longest


def _places(tables: _Tables) -> tuple[int, int, int]:
    """The samples that have a size, the samples that have a place, and the end of the last one in bytes."""
    box = tables[b"stsz"]
    same, frames = (_count(box, 4), _count(box, 8)) if box else (0, 0)
    sizes = [] if same else _numbers(box, 12)[:frames]
    wide = bool(tables[b"co64"])
    chunks = _numbers(tables[b"co64"] if wide else tables[b"stco"], 8, "Q" if wide else "I")
    runs = _numbers(tables[b"stsc"], 8)
    firsts, counts = runs[::3], runs[1::3]
    placed = end = 0
    for number, (first, count) in enumerate(zip(firsts, counts, strict=False)):
        after = firsts[number + 1] if number + 1 < len(firsts) else len(chunks) + 1
        for chunk in chunks[max(first - 1, 0) : max(after - 1, 0)]:
            length = same * count if same else sum(sizes[placed : placed + count])
            placed, end = placed + count, max(end, chunk + length)
    return frames if same else len(sizes), placed, end


def _edits(box: bytes, movie_clock: int, media_clock: int) -> Iterator[Edit]:
    if not box:
        return
    layout, start = struct.Struct(">QqI" if box[0] == 1 else ">IiI"), 0.0
    rows = [layout.unpack_from(box, at) for at in range(8, len(box) - layout.size + 1, layout.size)]
    has_rates = any(rate for _, media, rate in rows if media >= 0)
    for length, media, rate in rows:
        seconds, speed = length / movie_clock, rate / 65536 if has_rates else 1.0  # some programs write no rates
        yield Edit(start, seconds, media / media_clock if media >= 0 else None, speed)
        start += seconds


def _count(box: bytes, at: int) -> int:
    return int(struct.unpack_from(">I", box, at)[0]) if len(box) >= at + 4 else 0


def _numbers(box: bytes, at: int, kind: str = "I") -> tuple[int, ...]:
    """All numbers of a table from `at` on."""
    width = struct.calcsize(f">{kind}")
    return struct.unpack_from(f">{max(len(box) - at, 0) // width}{kind}", box, at) if len(box) >= at else ()
