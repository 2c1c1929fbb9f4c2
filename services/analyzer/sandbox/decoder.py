"""Decodes the requested frames into upright pictures. Runs in the sandbox.

    packets ─▶ decoder ─▶ chosen frames ─▶ square pixels, bounded size, upright, contiguous ─▶ sandbox

A decoder often stops silently at damage, so every requested frame that does not decode is counted.
"""

import heapq
import os
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from services.analyzer.arrays import Pixels
from services.analyzer.sandbox.container import (
    Orientation,
    Source,
    check_memory,
    check_time,
    opened,
    read_movie,
    upright_size,
)
from services.analyzer.sandbox.fields import Deinterlacer
from services.analyzer.sandbox.limits import SandboxLimits
from services.analyzer.sandbox.tone_mapping import to_standard_range

# The pose model uses one core. More threads than two save little time, and each holds pictures of its own.
THREADS = min(2, max(1, len(os.sched_getaffinity(0)) - 1))
# Pictures that a decoder holds back to put them in order: H.264 has at most 16 (ITU-T H.264, A.3.1), each thread one.
MOST_HELD_BACK = 16 + THREADS
# A larger picture than 4K is decoded by one thread and converted at its final size, which bounds the memory.
LARGE_PIXELS = 4096 * 2304
# Decoders that were measured to give the same bytes for a frame when unreferenced frames are skipped.
SKIPPABLE = frozenset({"h264", "hevc"})
# A picture that differs from the requested size by so much has the same shape.
ROUNDING_PIXELS = 2
# What FFmpeg, OpenCV, NumPy and PyAV raise for a picture that they cannot convert.
CONVERSION_ERRORS = (av.FFmpegError, cv2.error, ValueError, ArithmeticError)
# One instance, because it caches its conversion context between frames.
SCALER = VideoReformatter()


@dataclass
class _Losses:
    """Counts the requested frames that did not decode; keeps the first error and the CPU seconds of converting.

    resized: index of the first picture of another shape, None if all have the same.
    """

    missing: int = 0
    first_error: str | None = None
    resized: int | None = None
    convert_seconds: float = 0.0

    def record(self, error: str | None) -> None:
        self.first_error = self.first_error or error

    def record_conversion(self, error: Exception) -> None:
        """Keep the error of a picture; raise MemoryError if it failed for lack of memory."""
        if isinstance(error, cv2.error) and error.code == cv2.Error.StsNoMem:
            raise MemoryError from error
        check_memory(error)
        self.record(error.strerror if isinstance(error, av.FFmpegError) else "a picture cannot be converted")


def decode(
    arguments: dict[str, Any], limits: SandboxLimits, report_alive: Callable[[], None]
) -> Generator[tuple[dict[str, Any], Pixels], None, dict[str, Any]]:
    """Yield the frames with the stamps arguments["pts"], increasing, each with its index there; return the losses.

    arguments: path and pts. seek: whether the container seeks exactly. size: (width, height) of the upright picture.
    orientation: as `container.Orientation`. interlaced: whether pts has both fields of each frame. layout: a key of
    LAYOUTS. fast: whether to use FAST_OPTIONS. hdr: the transfer of the pictures, None if of standard range.

    Raises BadInput when decoding exceeds its CPU time.
    """
    waiting = {stamp: index for index, stamp in enumerate(arguments["pts"])}
    losses, last = _Losses(), -1
    path = Path(arguments["path"])
    with opened(path, limits, read_movie(path)) as source:
        frames = _read_frames(source, waiting, limits, losses, report_alive, arguments)
        if arguments["interlaced"]:
            frames = Deinterlacer(source.stream, losses.record_conversion).pictures(frames)
        if arguments["seek"] and waiting:
            first = arguments["pts"][0] // (2 if arguments["interlaced"] else 1)
            source.container.seek(source.timeline.media_stamp(first), stream=source.stream, backward=True)
        for frame in frames:
            index = waiting.pop(frame.pts, -1) if frame.pts is not None else -1
            # A frame that goes back in time is lost.
            if index > last and (picture := _convert(frame, index, source.stream, arguments, losses)) is not None:
                last = index
                yield {"index": index}, picture
                del picture  # otherwise it stays in memory beside the next one
            elif index >= 0:
                losses.missing += 1
            del frame  # likewise: an 8K frame has 100 MB
            if not waiting:
                break
    cpu_seconds = {"convert": losses.convert_seconds, "decode": time.process_time() - losses.convert_seconds}
    missing = losses.missing + len(waiting)
    return {
        "missing": missing,
        "first_error": losses.first_error,
        "resized": losses.resized,
        "cpu_seconds": cpu_seconds,
    }


def _convert(
    frame: VideoFrame, index: int, stream: VideoStream, arguments: dict[str, Any], losses: _Losses
) -> Pixels | None:
    """The picture, or None after recording the error. A picture of another shape stands between black bars."""
    losses.record("a picture is incomplete" if frame.is_corrupt else None)

    began = time.thread_time()
    try:
        size, turn = arguments["size"], arguments["orientation"]
        inner = fit_inside(upright_size(frame, stream, turn), size)
        has_bars = inner != tuple(size)
        if has_bars and losses.resized is None:
            losses.resized = index
        picture = LAYOUTS[arguments["layout"]](frame, inner, turn, arguments["hdr"])
        return BORDERS[arguments["layout"]](picture, inner, size) if has_bars else picture
    except CONVERSION_ERRORS as error:
        losses.record_conversion(error)
        return None
    finally:
        losses.convert_seconds += time.thread_time() - began


def fit_inside(picture: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """The largest (width, height) of a picture's shape in `size`; `size` itself if it differs by rounding only."""
    pairs = list(zip(picture, size, strict=True))
    # Of a narrow picture, a rounded short side changes the scale by more than the long side shows.
    if max((outer - ROUNDING_PIXELS) / side for side, outer in pairs) <= min(
        (outer + ROUNDING_PIXELS) / side for side, outer in pairs
    ):
        return size[0], size[1]
    scale = min(outer / side for side, outer in pairs)
    width, height = (min(2 * max(round(side * scale / 2), 1), outer) for side, outer in pairs)
    return max(width - width % 2, 1), max(height - height % 2, 1)


def border_rgb(inner: Pixels, inner_size: tuple[int, int], size: tuple[int, int]) -> Pixels:
    """An RGB picture in the middle of a black one. sizes: (width, height)."""
    outer = np.zeros((size[1], size[0], 3), np.uint8)
    left, top = ((whole - part) // 2 for whole, part in zip(size, inner_size, strict=True))
    outer[top : top + inner_size[1], left : left + inner_size[0]] = inner
    return outer


def border_planes(inner: Pixels, inner_size: tuple[int, int], size: tuple[int, int]) -> Pixels:
    """`border_rgb` for planes; all sizes are even."""
    planes, start = [], 0
    left, top = ((whole - part) // 4 * 2 for whole, part in zip(size, inner_size, strict=True))
    for half, black in ((1, 16), (2, 128), (2, 128)):
        width, height = (side // half for side in inner_size)
        plane = np.full((size[1] // half, size[0] // half), black, np.uint8)
        stored = inner[start : start + width * height].reshape(height, width)
        plane[top // half : top // half + height, left // half : left // half + width] = stored
        planes.append(plane.reshape(-1))
        start += width * height
    return np.concatenate(planes)


def upright_rgb(frame: VideoFrame, size: tuple[int, int], orientation: Orientation, hdr: str | None) -> Pixels:
    """The upright picture, (height, width, 3) RGB. size: its (width, height). The levels stay those of the film.

    It is contiguous, because MediaPipe ignores strides: padded rows shear the picture and hide the person.
    """
    width, height = reversed(size) if orientation[0] else size
    if frame.width * frame.height > LARGE_PIXELS:
        frame = SCALER.reformat(frame, width, height, interpolation="AREA", threads=1)
    rgb: Any = SCALER.reformat(frame, format="rgb24", threads=THREADS).to_ndarray()
    if rgb.shape[:2] != (height, width):  # OpenCV needs a third of FFmpeg's time for this
        rgb = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_LINEAR)
    return _turn_upright(rgb, orientation)


def upright_planes(frame: VideoFrame, size: tuple[int, int], orientation: Orientation, hdr: str | None) -> Pixels:
    """The upright picture as planes, (height * 3 / 2 * width,): Y, then U and V at half the width and height.

    size: its (width, height), both even. H.264 stores these planes in the source's colours: converting to RGB and back
    would take half of FFmpeg's time. Pictures of high dynamic range are converted to standard range, BT.709.
    """
    width, height = reversed(size) if orientation[0] else size
    if hdr:
        frame = to_standard_range(SCALER.reformat(frame, width, height, interpolation="AREA", threads=THREADS), hdr)
    small = SCALER.reformat(
        frame, width, height, "yuv420p", interpolation="AREA", dst_color_range="MPEG", threads=THREADS
    )
    stored, area = small.to_ndarray().reshape(-1), width * height
    luma = stored[:area].reshape(height, width)
    chroma = stored[area:].reshape(2, height // 2, width // 2)
    return np.concatenate([_turn_upright(plane, orientation).reshape(-1) for plane in (luma, *chroma)])


def _turn_upright(stored: Pixels, orientation: Orientation) -> Pixels:
    swap, left_right, top_bottom = orientation
    turned: Any = cv2.transpose(stored) if swap else stored
    if left_right or top_bottom:
        turned = cv2.flip(turned, -1 if left_right and top_bottom else int(left_right))
    return np.ascontiguousarray(turned)


# Without the deblocking filter, decoding takes a quarter less work. At half the width the PSNR is over 45 dB.
FAST_OPTIONS = {"skip_loop_filter": "all"}
LAYOUTS = {"rgb24": upright_rgb, "yuv420p": upright_planes}
BORDERS = {"rgb24": border_rgb, "yuv420p": border_planes}


def _read_frames(
    source: Source,
    waiting: dict[int, int],
    limits: SandboxLimits,
    losses: _Losses,
    report_alive: Callable[[], None],
    arguments: dict[str, Any],
) -> Iterator[VideoFrame]:
    """Frames in decoder order, without those that were not requested and that no other frame references.

    Of an interlaced stream, all frames: each field needs the frames before and after.
    """
    stream, context = source.stream, source.stream.codec_context
    threads = 1 if stream.width * stream.height > LARGE_PIXELS else THREADS
    stream.thread_type, context.thread_count = "AUTO", threads
    context.options = {"max_pixels": str(limits.max_video_pixels)} | (FAST_OPTIONS if arguments["fast"] else {})
    in_order = source.container.format.name == "avi"
    may_skip = context.name in SKIPPABLE and not arguments["interlaced"] and not in_order
    stamps: list[int] = []
    try:
        for packet in source.timeline.packets():
            report_alive()
            check_time(limits, "the video could not be decoded")
            if may_skip and packet.pts is not None:
                context.skip_frame = "DEFAULT" if packet.pts in waiting else "NONREF"
            frames = _decode_packet(packet, losses)
            if in_order:
                _stamp_in_order(frames, packet, stamps)
            yield from frames
    except av.FFmpegError as error:
        check_memory(error)
        losses.record(error.strerror)


def _stamp_in_order(frames: list[VideoFrame], packet: "Packet[VideoStream]", stamps: list[int]) -> None:
    """Gives frames the earliest stamps of the packets so far. An AVI stamps its packets in the order of decoding.

    stamps: a heap of those that no frame has yet. A frame that never comes leaves its stamp there, until the decoder
    cannot hold back as many.
    """
    if packet.size and packet.pts is not None:
        heapq.heappush(stamps, packet.pts)
    for frame in frames:
        frame.pts = heapq.heappop(stamps) if stamps else None
    while len(stamps) > MOST_HELD_BACK:
        heapq.heappop(stamps)


def _decode_packet(packet: "Packet[VideoStream]", losses: _Losses) -> list[VideoFrame]:
    """The packet's frames; none if it is broken, and decoding continues with the next packet."""
    try:
        return packet.decode()
    except av.FFmpegError as error:
        check_memory(error, packet)
        losses.record(error.strerror)

        return []
