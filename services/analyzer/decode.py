"""Turns chosen frames of a video into upright RGB pictures with their true times, in a thread of its own.

    file ─▶ packets ─▶ decoder ─▶ chosen frames ─▶ square pixels, bounded size, upright, contiguous ─▶ queue ─▶ caller

A decoder that meets damage often just stops. What was asked for and did not come is counted, never passed over.
"""

import queue
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from services.analyzer.faults import BadInput
from services.analyzer.probe import Video, opened
from services.analyzer.sampling import Indices
from services.analyzer.settings import Limits

RGB = NDArray[np.uint8]
# Pictures larger than this are made smaller on the way: it costs less than it saves only above 1080p.
LONG_SIDE = 1920
# More threads than this buy little and each holds pictures of its own.
DECODER_THREADS = 2
# Decoders for which leaving out unreferenced frames was seen to change no other frame by a single byte.
SKIPPABLE = frozenset({"h264", "hevc"})
AHEAD = 4
Item = TypeVar("Item")


@dataclass(frozen=True)
class Picture:
    """time_seconds since the video's first frame; rgb: (height, width, 3), contiguous, upright."""

    index: int
    time_seconds: float
    rgb: RGB


@dataclass
class Losses:
    """What did not decode: how many frames were asked for and never came, and the decoder's first complaint."""

    missing: int = 0
    complaint: str | None = None

    def note(self, complaint: str | None) -> None:
        """Keep the first complaint: the later ones follow from it."""
        self.complaint = self.complaint or complaint

    @property
    def sentence(self) -> str | None:
        """What a person is told, None where nothing was lost."""
        why = f" ({self.complaint})" if self.complaint else ""
        if self.missing:
            return f"{self.missing} frames could not be decoded{why}"
        return f"parts of the video are broken{why}" if why else None


def pictures(
    video: Video, wanted: Indices, limits: Limits, losses: Losses, long_side: int = LONG_SIDE
) -> Generator[Picture, None, None]:
    """The wanted frames in order; `wanted` are increasing indices into video.pts.

    Frames that do not come are added to `losses`. Raises BadInput when decoding takes longer than is allowed.
    """
    waiting = {int(video.pts[i]): int(i) for i in wanted}
    last = -1
    with opened(video.path, limits) as (container, stream):
        _go_to(container, stream, video, wanted)
        for frame in _frames(container, stream, waiting, limits, losses):
            index = waiting.pop(frame.pts, -1) if frame.pts is not None else -1
            # An AVI with B-frames numbers its frames in the wrong order: those that go back in time are lost.
            if index > last:
                last = index
                losses.note("a picture is incomplete" if frame.is_corrupt else None)
                yield Picture(index, float(video.times[index]), upright(frame, video, long_side))
            elif index >= 0:
                losses.missing += 1
            if not waiting:
                return
    losses.missing += len(waiting)


def upright(frame: VideoFrame, video: Video, long_side: int = LONG_SIDE) -> RGB:
    """(height, width, 3) as a person would see it, with square pixels and the longer side at most `long_side`.

    Contiguous, because MediaPipe ignores strides: padded rows give it a sheared picture with nobody in it.
    """
    shrink = min(1.0, long_side / max(video.width, video.height))
    width, height = round(video.width * shrink), round(video.height * shrink)
    if video.rotation_degrees % 180:
        width, height = height, width
    stored: NDArray[Any] = frame.to_ndarray(format="rgb24")
    if stored.shape[:2] != (height, width):  # OpenCV does this in a third of FFmpeg's time
        stored = cv2.resize(stored, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(np.rot90(stored, -video.rotation_degrees // 90))


def ahead(source: Generator[Item, None, None], depth: int = AHEAD) -> Generator[Item, None, None]:
    """The same items, made by a thread that stays at most `depth` ahead; it ends when the caller stops listening."""
    line: queue.Queue[tuple[Item | None, BaseException | None]] = queue.Queue(depth)
    enough = threading.Event()
    thread = threading.Thread(target=_fill, args=(line, source, enough), name="decode", daemon=True)
    thread.start()
    try:
        while True:
            item, end = line.get()
            if isinstance(end, StopIteration):
                return
            if end is not None:
                raise end
            yield item  # type: ignore[misc]  # without an end there is an item
    finally:
        enough.set()
        thread.join()


def _fill(
    line: queue.Queue[tuple[Item | None, BaseException | None]],
    source: Generator[Item, None, None],
    enough: threading.Event,
) -> None:
    """Put all items and then how it ended into the line, until enough is said."""

    def put(item: Item | None, end: BaseException | None) -> bool:
        while not enough.is_set():
            try:
                line.put((item, end), timeout=0.05)
                return True
            except queue.Full:
                continue
        return False

    try:
        while put(next(source), None):
            pass
        source.close()
    except BaseException as end:  # StopIteration too: whatever ends the source is the caller's to see
        put(None, end)


def _go_to(container: InputContainer, stream: VideoStream, video: Video, wanted: Indices) -> None:
    """Start at the key frame before the first wanted one, in the containers whose seeking can be trusted."""
    if len(wanted) and wanted[0] > 0 and video.container.startswith(("mov", "matroska")):
        container.seek(int(video.pts[wanted[0]]), stream=stream, backward=True)


def _frames(
    container: InputContainer, stream: VideoStream, waiting: dict[int, int], limits: Limits, losses: Losses
) -> Iterator[VideoFrame]:
    """Frames as they leave the decoder; those that nobody waits for and no other frame refers to are skipped."""
    context = stream.codec_context
    stream.thread_type, context.thread_count = "AUTO", DECODER_THREADS
    context.options = {"max_pixels": str(limits.max_video_pixels)}
    give_up_at = time.monotonic() + limits.max_decode_seconds
    try:
        for packet in container.demux(stream):
            if time.monotonic() > give_up_at:
                raise BadInput("TOO_SLOW", f"the video could not be decoded within {limits.max_decode_seconds:.0f} s")
            if context.name in SKIPPABLE and packet.pts is not None:
                context.skip_frame = "DEFAULT" if packet.pts in waiting else "NONREF"
            yield from _decode(packet, losses)
    except av.FFmpegError as error:
        losses.note(error.strerror)


def _decode(packet: "Packet[VideoStream]", losses: Losses) -> list[VideoFrame]:
    """A broken packet costs its frame, not the film."""
    try:
        return packet.decode()
    except av.FFmpegError as error:
        losses.note(error.strerror)
        return []
