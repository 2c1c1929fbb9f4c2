"""Decodes the frames that are asked for into upright pictures. Runs in the sandbox.

    packets ─▶ decoder ─▶ chosen frames ─▶ square pixels, bounded size, upright, contiguous ─▶ sandbox

A decoder that meets damage often just stops. What was asked for and did not come is counted, never passed over.
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
from numpy.typing import NDArray

from services.analyzer.sandbox.container import Orientation, check_memory, check_time, opened
from services.analyzer.sandbox.limits import Bounds

# One core is the model's. More threads than this buy little and each holds pictures of its own.
THREADS = min(2, max(1, len(os.sched_getaffinity(0)) - 1))
# Decoders for which leaving out unreferenced frames was seen to change no other frame by a single byte.
SKIPPABLE = frozenset({"h264", "hevc"})
# Keeps what it has worked out from frame to frame.
SCALER = VideoReformatter()
Pixels = NDArray[np.uint8]


@dataclass
class _Losses:
    """How many frames were asked for and never came, the decoder's first complaint, and CPU seconds of converting."""

    missing: int = 0
    complaint: str | None = None
    converting: float = 0.0

    def note(self, complaint: str | None) -> None:
        self.complaint = self.complaint or complaint


def decode(
    asked: dict[str, Any], bounds: Bounds, still: Callable[[], None]
) -> Generator[tuple[dict[str, Any], Pixels], None, dict[str, Any]]:
    """The frames with the stamps asked["pts"], increasing, each with its place among them; then what was lost.

    asked: path; pts; seek, whether its container's seeking can be trusted; size, (width, height) of the upright
    picture to make; orientation; layout, one of LAYOUTS; hasty, whether HASTY will do. Raises BadInput when decoding
    takes longer than is allowed.
    """
    waiting = {stamp: place for place, stamp in enumerate(asked["pts"])}
    losses, last = _Losses(), -1
    with opened(Path(asked["path"]), bounds) as (container, stream):
        if asked["seek"] and waiting:
            container.seek(asked["pts"][0], stream=stream, backward=True)
        for frame in _frames(container, stream, waiting, bounds, losses, still, hasty=asked["hasty"]):
            place = waiting.pop(frame.pts, -1) if frame.pts is not None else -1
            # An AVI with B-frames numbers its frames in the wrong order: those that go back in time are lost.
            if place > last and (picture := _converted(frame, asked, losses)) is not None:
                last = place
                yield {"place": place}, picture
                del picture  # it would lie beside the next one
            elif place >= 0:
                losses.missing += 1
            if not waiting:
                break
    spent = {"convert": losses.converting, "decode": time.process_time() - losses.converting}
    return {"missing": losses.missing + len(waiting), "complaint": losses.complaint, "spent": spent}


def _converted(frame: VideoFrame, asked: dict[str, Any], losses: _Losses) -> Pixels | None:
    """The picture, or None with a note of why there is none."""
    losses.note("a picture is incomplete" if frame.is_corrupt else None)
    began = time.thread_time()
    try:
        return LAYOUTS[asked["layout"]](frame, asked["size"], asked["orientation"])
    except av.FFmpegError as error:
        check_memory(error)
        losses.note(error.strerror)
        return None
    finally:
        losses.converting += time.thread_time() - began


def upright(frame: VideoFrame, size: tuple[int, int], orientation: Orientation) -> Pixels:
    """(height, width, 3) as a person would see it. size: (width, height) of that.

    Contiguous, because MediaPipe ignores strides: padded rows give it a sheared picture with nobody in it.
    """
    width, height = reversed(size) if orientation[0] else size
    rgb: Any = SCALER.reformat(frame, format="rgb24", threads=THREADS).to_ndarray()
    if rgb.shape[:2] != (height, width):  # OpenCV does this in a third of FFmpeg's time
        rgb = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_LINEAR)
    return _turned(rgb, orientation)


def upright_planes(frame: VideoFrame, size: tuple[int, int], orientation: Orientation) -> Pixels:
    """(height * 3 / 2 * width,): Y, then U and V of half the size each way. size: (width, height) upright, even.

    What H.264 stores, in the colours of the source: half of FFmpeg's time goes into RGB and back.
    """
    width, height = reversed(size) if orientation[0] else size
    small = SCALER.reformat(
        frame, width, height, "yuv420p", interpolation="AREA", dst_color_range="MPEG", threads=THREADS
    )
    stored, area = small.to_ndarray().reshape(-1), width * height
    luma = stored[:area].reshape(height, width)
    chroma = stored[area:].reshape(2, height // 2, width // 2)
    return np.concatenate([_turned(plane, orientation).reshape(-1) for plane in (luma, *chroma)])


def _turned(stored: Pixels, orientation: Orientation) -> Pixels:
    swap, left_right, top_bottom = orientation
    turned: Any = cv2.transpose(stored) if swap else stored
    if left_right or top_bottom:
        turned = cv2.flip(turned, -1 if left_right and top_bottom else int(left_right))
    return np.ascontiguousarray(turned)


# Blocks keep their edges: a quarter less work, and over 45 dB alike once the picture is half as wide.
HASTY = {"skip_loop_filter": "all"}
LAYOUTS = {"rgb24": upright, "yuv420p": upright_planes}


def _frames(
    container: InputContainer,
    stream: VideoStream,
    waiting: dict[int, int],
    bounds: Bounds,
    losses: _Losses,
    still: Callable[[], None],
    *,
    hasty: bool,
) -> Iterator[VideoFrame]:
    """Frames as they leave the decoder; those that nobody waits for and no other frame refers to are skipped."""
    context = stream.codec_context
    stream.thread_type, context.thread_count = "AUTO", THREADS
    context.options = {"max_pixels": str(bounds.max_video_pixels)} | (HASTY if hasty else {})
    try:
        for packet in container.demux(stream):
            still()
            check_time(bounds, "the video could not be decoded")
            if context.name in SKIPPABLE and packet.pts is not None:
                context.skip_frame = "DEFAULT" if packet.pts in waiting else "NONREF"
            yield from _decode(packet, losses)
    except av.FFmpegError as error:
        check_memory(error)
        losses.note(error.strerror)


def _decode(packet: "Packet[VideoStream]", losses: _Losses) -> list[VideoFrame]:
    """A broken packet costs its frame, not the film."""
    try:
        return packet.decode()
    except av.FFmpegError as error:
        check_memory(error, packet)
        losses.note(error.strerror)
        return []
