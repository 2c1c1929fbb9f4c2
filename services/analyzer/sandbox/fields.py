"""Turns each interlaced frame into two pictures, one of each field, at the times at which a camera took them.

An interlaced frame shows two moments between each other's lines. FFmpeg's bwdif rebuilds the missing lines of each.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise

import av
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

# A packet that comes within this share of a frame holds the frame's second field.
SECOND_FIELD = 0.75


def whole_frames(packets: list[int], step: int) -> list[int]:
    """The stamps of frames, each of one packet or of two with a field each. step: ticks from one frame to the next."""
    frames: list[int] = []
    for stamp in packets:
        if not frames or stamp - frames[-1] > SECOND_FIELD * step:
            frames.append(stamp)
    return frames


def stamps(frames: list[int]) -> list[int]:
    """The stamps of both fields of each frame, on a clock with half the tick. frames: their stamps, increasing."""
    steps = [after - now for now, after in pairwise(frames)]
    last = steps[-1] if steps else 1
    return [2 * frame + field for frame, step in zip(frames, [*steps, last], strict=True) for field in (0, step)]


class Deinterlacer:
    """Gets the frames of a stream in order, and yields the pictures of their fields.

    A frame that the filter refuses is lost: `record` gets the error.
    """

    def __init__(self, stream: VideoStream, record: Callable[[Exception], None]) -> None:
        self._stream = stream
        self._record = record
        self._graph: Graph | None = None
        self._format: tuple[int, int, str] | None = None

    def pictures(self, frames: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
        """Both pictures of each frame; at its end and where the format changes, those that were held back."""
        for frame in frames:
            yield from self._filter(frame)
        yield from self._filter(None)

    def _filter(self, frame: VideoFrame | None) -> Iterator[VideoFrame]:
        """The pictures that the filter has after this frame; None: after the last."""
        try:
            this = (frame.width, frame.height, frame.format.name) if frame else None
            if this != self._format:
                yield from self._flush()
                self._graph, self._format = self._create(frame) if frame else None, this
            if self._graph:
                self._graph.vpush(frame)
                yield from self._pull()
        except (av.FFmpegError, ValueError) as error:
            self._record(error)
            self._graph = self._format = None

    def _create(self, frame: VideoFrame) -> Graph:
        graph = Graph()
        graph.threads = 1
        source = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=self._stream.time_base
        )
        graph.link_nodes(source, graph.add("bwdif", "send_field:auto:all"), graph.add("buffersink")).configure()
        return graph

    def _flush(self) -> Iterator[VideoFrame]:
        if self._graph:
            self._graph.vpush(None)
            yield from self._pull()
            self._graph = None

    def _pull(self) -> Iterator[VideoFrame]:
        assert self._graph is not None  # noqa: S101 - only called with a graph
        try:
            while True:
                yield self._graph.vpull()
        except (av.BlockingIOError, av.EOFError):
            return
