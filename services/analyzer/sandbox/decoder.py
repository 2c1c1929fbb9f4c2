"""Decodes the requested frames into upright pictures. Runs in the sandbox.

    packets ─▶ decoder ─▶ chosen frames ─▶ square pixels, bounded size, upright, contiguous ─▶ sandbox

A decoder often stops silently at damage, so every requested frame that does not decode is counted.
"""

import os
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from services.analyzer.arrays import Pixels
from services.analyzer.sandbox.container import Orientation, check_memory, check_time, opened
from services.analyzer.sandbox.limits import SandboxLimits

# The pose model uses one core. More threads than two save little time, and each holds pictures of its own.
THREADS = min(2, max(1, len(os.sched_getaffinity(0)) - 1))
# Decoders that were measured to give the same bytes for a frame when unreferenced frames are skipped.
SKIPPABLE = frozenset({"h264", "hevc"})
# One instance, because it caches its conversion context between frames.
SCALER = VideoReformatter()


@dataclass
class _Losses:
    """Counts the requested frames that did not decode; keeps the first error and the CPU seconds of converting."""

    missing: int = 0
    first_error: str | None = None
    convert_seconds: float = 0.0

    def record(self, error: str | None) -> None:
        self.first_error = self.first_error or error


def decode(
    arguments: dict[str, Any], limits: SandboxLimits, report_alive: Callable[[], None]
) -> Generator[tuple[dict[str, Any], Pixels], None, dict[str, Any]]:
    """Yield the frames with the stamps arguments["pts"], increasing, each with its index there; return the losses.

    arguments: path and pts. seek: whether the container seeks exactly. size: (width, height) of the upright picture.
    orientation: as `container.Orientation`. layout: a key of LAYOUTS. fast: whether to use FAST_OPTIONS.

    Raises BadInput when decoding exceeds its CPU time.
    """
    waiting = {stamp: index for index, stamp in enumerate(arguments["pts"])}
    losses, last = _Losses(), -1
    with opened(Path(arguments["path"]), limits) as (container, stream):
        if arguments["seek"] and waiting:
            container.seek(arguments["pts"][0], stream=stream, backward=True)
        for frame in _read_frames(container, stream, waiting, limits, losses, report_alive, fast=arguments["fast"]):
            index = waiting.pop(frame.pts, -1) if frame.pts is not None else -1
            # An AVI with B-frames stamps its frames in the wrong order: a frame that goes back in time is lost.
            if index > last and (picture := _convert(frame, arguments, losses)) is not None:
                last = index
                yield {"index": index}, picture
                del picture  # otherwise it stays in memory beside the next one
            elif index >= 0:
                losses.missing += 1
            if not waiting:
                break
    cpu_seconds = {"convert": losses.convert_seconds, "decode": time.process_time() - losses.convert_seconds}
    missing = losses.missing + len(waiting)
    return {"missing": missing, "first_error": losses.first_error, "cpu_seconds": cpu_seconds}


def _convert(frame: VideoFrame, arguments: dict[str, Any], losses: _Losses) -> Pixels | None:
    """The picture, or None after recording the error."""
    losses.record("a picture is incomplete" if frame.is_corrupt else None)

    began = time.thread_time()
    try:
        return LAYOUTS[arguments["layout"]](frame, arguments["size"], arguments["orientation"])
    except av.FFmpegError as error:
        check_memory(error)
        losses.record(error.strerror)
        return None
    finally:
        losses.convert_seconds += time.thread_time() - began


def upright_rgb(frame: VideoFrame, size: tuple[int, int], orientation: Orientation) -> Pixels:
    """The upright picture, (height, width, 3) RGB. size: its (width, height).

    It is contiguous, because MediaPipe ignores strides: padded rows shear the picture and hide the person.
    """
    width, height = reversed(size) if orientation[0] else size
    rgb: Any = SCALER.reformat(frame, format="rgb24", threads=THREADS).to_ndarray()
    if rgb.shape[:2] != (height, width):  # OpenCV needs a third of FFmpeg's time for this
        rgb = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_LINEAR)
    return _turn_upright(rgb, orientation)


def upright_planes(frame: VideoFrame, size: tuple[int, int], orientation: Orientation) -> Pixels:
    """The upright picture as planes, (height * 3 / 2 * width,): Y, then U and V at half the width and height.

    size: its (width, height), both even. H.264 stores these planes in the source's colours: converting to RGB and back
    would take half of FFmpeg's time.
    """
    width, height = reversed(size) if orientation[0] else size
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


def _read_frames(
    container: InputContainer,
    stream: VideoStream,
    waiting: dict[int, int],
    limits: SandboxLimits,
    losses: _Losses,
    report_alive: Callable[[], None],
    *,
    fast: bool,
) -> Iterator[VideoFrame]:
    """Frames in decoder order, without those that were not requested and that no other frame references."""
    context = stream.codec_context
    stream.thread_type, context.thread_count = "AUTO", THREADS
    context.options = {"max_pixels": str(limits.max_video_pixels)} | (FAST_OPTIONS if fast else {})
    try:
        for packet in container.demux(stream):
            report_alive()
            check_time(limits, "the video could not be decoded")
            if context.name in SKIPPABLE and packet.pts is not None:
                context.skip_frame = "DEFAULT" if packet.pts in waiting else "NONREF"
            yield from _decode_packet(packet, losses)
    except av.FFmpegError as error:
        check_memory(error)
        losses.record(error.strerror)


def _decode_packet(packet: "Packet[VideoStream]", losses: _Losses) -> list[VideoFrame]:
    """The packet's frames; none if it is broken, and decoding continues with the next packet."""
    try:
        return packet.decode()
    except av.FFmpegError as error:
        check_memory(error, packet)
        losses.record(error.strerror)

        return []
