"""Gives every packet its time on the clock of a player. Runs in the sandbox.

| file | its stamps | the clock |
|---|---|---|
| recordings joined byte by byte | begin again | continues; `joins` has where each further recording begins |
| an edit list in parts, or at another speed | differ from the list: `mp4.Track.needs_own_clock` | as the list says |

A file is always read from its beginning through a timeline, so that two readers give a packet the same stamp.
"""

import errno
import math
from collections.abc import Iterator
from typing import cast

from av.container import InputContainer
from av.error import InvalidDataError
from av.packet import Packet
from av.video.stream import VideoStream

from services.containers.mp4 import Edit

# A recording begins again where the decoding time goes back by this, or a key frame is shown before earlier frames.
BACK_SECONDS, KEY_FRAME_BACK_SECONDS = 1.0, 0.1
# Containers whose files can be joined byte by byte; an edit list of an MP4 may show frames again.
JOINABLE = ("mpegts", "mpeg", "matroska,webm")
# MPEG streams carry a camera's clock: another recording begins after a longer gap. FFmpeg's own threshold is the same.
GAP_SECONDS = 10.0
GAPS = ("mpegts", "mpeg")
# FFmpeg gives up 64 KB of a transport stream at once where it finds no packet: more of these are in no accepted file.
MOST_HOLES = 100_000
# Sums and doubles of these fit into 64 bits.
LARGEST_STAMP = 1 << 60


class Timeline:
    """The packets of one stream, with the stamps of a player. joins: stamps at which further recordings begin.

    has_holes: whether parts of the file hold no packets, as after a failed copy.
    edits: of the stream, if FFmpeg ignores them. end: in bytes, of the recording that is read; None: of the file.
    """

    def __init__(
        self, container: InputContainer, stream: VideoStream, edits: tuple[Edit, ...] = (), end: int | None = None
    ) -> None:
        self.joins: list[int] = []
        self._bytes = end if end is not None else math.inf
        self._container = container
        self._stream = stream
        self._edits = edits
        tick = stream.time_base
        self._second = float(1 / tick) if tick else 1000.0
        self._offset = 0
        # Of the packets so far, with their new stamps: the last decoding time, the latest stamp, the end.
        self._decoded: int | None = None
        self._latest: int | None = None
        self._end = 0
        # Of the recording so far: its first stamp, and how many frames it has.
        self._first = 0
        self._count = 0
        # Where in the file each other video stream begins, and the last packet of this one.
        self._others: dict[int, int] = {}
        self._at = 0
        self.has_holes = False

    @property
    def later_streams(self) -> int:
        """How many other video streams begin after this one's end, once all packets are read: recordings joined to it.

        Two cameras number their streams differently.
        """
        return sum(begins > self._at for begins in self._others.values())

    def packets(self) -> "Iterator[Packet[VideoStream]]":
        """All packets; the flush packet at the end has no stamp, and neither has a frame that no edit shows.

        Raises InvalidDataError at a stamp that is too large to calculate with.
        """
        for packet in self._demux():
            if packet.stream.index != self._stream.index:
                self._others.setdefault(packet.stream.index, packet.pos or 0)
                continue
            self._at = max(self._at, packet.pos or 0)
            _check_stamps(packet.pts, packet.dts, packet.duration)
            if packet.pts is not None and (packet.pos or 0) >= self._bytes:
                continue
            if packet.pts is not None:
                if self._edits:
                    self._edit(packet, packet.pts)
                elif self._container.format.name in JOINABLE:
                    self._continue(packet)
            yield packet

    def _demux(self) -> "Iterator[Packet[VideoStream]]":
        """The packets of the file, of all video streams where recordings of several cameras can be joined."""
        streams = self._container.streams.video if self._container.format.name in GAPS else (self._stream,)
        for _ in range(MOST_HOLES):
            try:
                yield from cast("Iterator[Packet[VideoStream]]", self._container.demux(*streams))
                return
            except BlockingIOError:  # "try again": the demuxer has skipped a hole
                self.has_holes = True
        raise InvalidDataError(errno.EINVAL, "most of the file holds no packets")

    def _continue(self, packet: "Packet[VideoStream]") -> None:
        """Move the packet's stamps so that the clock goes on where a recording begins again."""
        assert packet.pts is not None  # noqa: S101 - the caller's condition
        if self._begins_again(packet):
            self._offset = self._end - packet.pts
            self.joins.append(self._end)
            self._latest = None
            self._count = 0
        if self._offset:
            packet.pts += self._offset
            packet.dts = None if packet.dts is None else packet.dts + self._offset
        self._decoded = packet.dts if packet.dts is not None else self._decoded
        self._latest = packet.pts if self._latest is None else max(self._latest, packet.pts)
        self._first = min(self._first, packet.pts) if self._count else packet.pts
        self._count += 1
        # Some packets have no length: then the last frame is taken to last as long as the mean.
        mean = (self._latest - self._first) // max(self._count - 1, 1)
        self._end = self._latest + max(packet.duration or 0, mean)

    def _begins_again(self, packet: "Packet[VideoStream]") -> bool:
        assert packet.pts is not None  # noqa: S101 - the caller's condition
        shown = packet.pts + self._offset
        if self._latest is None:
            return False
        if packet.is_keyframe and shown < self._latest - KEY_FRAME_BACK_SECONDS * self._second:
            return True
        gap = GAP_SECONDS * self._second
        step = gap + 1  # unknown
        if packet.dts is not None and self._decoded is not None:
            step = packet.dts + self._offset - self._decoded
        if step < -BACK_SECONDS * self._second:
            return True
        # A single picture that is shown much later than it is decoded is a gap in one recording.
        return self._container.format.name in GAPS and shown > self._end + gap and step > gap

    def _edit(self, packet: "Packet[VideoStream]", media: int) -> None:
        """Set the stamp at which the first edit shows the media stamp; None if no edit shows it."""
        seconds = media / self._second
        packet.pts = packet.dts = None
        for edit in self._edits:
            if edit.media_start is None:
                continue
            # Half a tick, because an edit's ends are rounded to another clock.
            into = seconds - edit.media_start + 0.5 / self._second
            if not edit.rate and -(packet.duration or 0) / self._second < into <= 1 / self._second:
                shown, lasts = edit.start * self._second, edit.seconds * self._second
            elif edit.rate and 0 <= into / edit.rate < (edit.seconds or math.inf):
                shown = (edit.start + (seconds - edit.media_start) / edit.rate) * self._second
                lasts = (packet.duration or 0) / edit.rate
            else:
                continue
            _check_stamps(round(shown), round(lasts))
            packet.pts, packet.duration = round(shown), round(lasts)
            return

    def media_stamp(self, stamp: int) -> int:
        """The stamp in the file of a packet that this timeline gives `stamp`."""
        seconds = stamp / self._second
        for edit in self._edits:
            if edit.media_start is not None and 0 <= seconds - edit.start < (edit.seconds or math.inf):
                return math.floor((edit.media_start + (seconds - edit.start) * edit.rate) * self._second)
        return stamp


def _check_stamps(*stamps: int | None) -> None:
    if max(abs(stamp or 0) for stamp in stamps) > LARGEST_STAMP:
        raise InvalidDataError(errno.EINVAL, "a time stamp is too large")
