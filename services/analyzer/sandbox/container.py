"""Reads what a file says about itself and what its packets say, which may differ. Runs in the sandbox.

    container ─▶ picture size ─▶ time stamps of all packets ─▶ first picture ─▶ facts

Only plain containers are opened: a playlist that calls itself a video could make FFmpeg read other files.
"""

import struct
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from services.analyzer.errors import BadInput
from services.analyzer.sandbox.limits import Bounds

CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg"
# How light is stored in high dynamic range: ITU-T H.273, TransferCharacteristics 16 and 18.
HDR = {16: "pq", 18: "hlg"}
# MPEG-TS, M2TS of cameras, TS with error correction.
TS_PACKET_BYTES = (188, 192, 204)
SEGMENT = bytes.fromhex("18538067")
# Which stored picture stands upright as: axes swapped, then left and right, then top and bottom.
Orientation = tuple[bool, bool, bool]


def inspect(asked: dict[str, Any], bounds: Bounds, still: Callable[[], None]) -> Generator[Any, None, dict[str, Any]]:
    """The facts of `probe.Video` about the file at asked["path"], as JSON has them. Raises BadInput."""
    yield from ()
    path = Path(asked["path"])
    with opened(path, bounds) as (container, stream):
        _check_pixels(path, stream.width, stream.height, bounds)
        declared = _declared_seconds(container, stream)
        stamps, end, complaint = _stamps(path, container, stream, bounds, still)
        complaint = complaint or _broken_off(path, container.format.name)
    with opened(path, bounds) as (container, stream):
        first = _first_picture(path, container, stream, still)
        _check_pixels(path, first.width, first.height, bounds)
        width, height = upright_size(first, stream)
        tick = stream.time_base or Fraction(1, 1000)
        return {
            "container": container.format.name,
            "codec": stream.codec_context.name,
            "pixel_format": first.format.name,
            "hdr": HDR.get(int(first.color_trc)),
            "colors": (int(first.color_primaries), int(first.color_trc), int(first.colorspace)),
            "width": width,
            "height": height,
            "orientation": orientation(first),
            "declared_fps": float(stream.average_rate) if stream.average_rate else None,
            "declared_seconds": declared,
            "declared_frames": stream.frames,
            "time_base": (tick.numerator, tick.denominator),
            "pts": stamps,
            "end": end,
            "complaint": complaint,
        }


@contextmanager
def opened(path: Path, bounds: Bounds) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The file's container and its first moving picture, for as long as the block runs. Raises BadInput."""
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file", "max_pixels": str(bounds.max_video_pixels)}
    try:
        container = av.open(str(path), options=options)
    except (av.FFmpegError, ValueError) as error:
        check_memory(error)
        raise BadInput("NOT_A_VIDEO", f"{path.name} is not a video that can be read") from error
    with container:
        moving = [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]
        if not moving:
            raise BadInput("NO_VIDEO_STREAM", f"{path.name} holds no video, only other streams")
        if moving[0].codec_context is None:
            raise BadInput("NOT_DECODABLE", f"{path.name} holds a kind of video that cannot be decoded")
        yield container, moving[0]


def check_memory(error: Exception, packet: "Packet[VideoStream] | None" = None) -> None:
    """Raise MemoryError for what FFmpeg says of memory, or of threads for want of it: no packet's fault.

    Decoders that got no memory for a picture may call its packet invalid: then there is none for another one either.
    """
    if isinstance(error, MemoryError | BlockingIOError):
        raise MemoryError from error
    if packet:
        decoder = packet.stream.codec_context
        np.empty((decoder.height, decoder.width, 3), np.uint8)


def check_time(bounds: Bounds, what: str) -> None:
    """Raise BadInput where this process has worked longer than it may; `what` begins the sentence."""
    if time.process_time() > bounds.max_decode_seconds:
        raise BadInput("TOO_SLOW", f"{what} within {bounds.max_decode_seconds:.0f} s of CPU time")


def orientation(frame: VideoFrame) -> Orientation:
    """How a stored picture is to be turned to stand upright: the nearest of the eight ways there are.

    The matrix sends stored (p, q) to (a p + c q, b p + d q): ISO/IEC 14496-12, 8.2.2.
    """
    matrices: list[bytes] = [bytes(data) for data in frame.side_data if data.type == Type.DISPLAYMATRIX]  # type: ignore[arg-type, attr-defined]
    if not matrices:
        return False, False, False
    a, b, _, c, d, *_ = struct.unpack("<9i", matrices[0])
    if abs(b) + abs(c) > abs(a) + abs(d):
        return True, c < 0, b < 0
    return False, a < 0, d < 0


def upright_size(frame: VideoFrame, stream: VideoStream) -> tuple[int, int]:
    """Width and height of the picture with square pixels, turned upright."""
    aspect = stream.sample_aspect_ratio or Fraction(1)
    width = max(round(frame.width * aspect), 1) if aspect > 0 else frame.width
    return (frame.height, width) if orientation(frame)[0] else (width, frame.height)


def _check_pixels(path: Path, width: int, height: int, bounds: Bounds) -> None:
    if width <= 0 or height <= 0:
        raise BadInput("NOT_DECODABLE", f"{path.name} does not say how large its pictures are")
    if width * height > bounds.max_video_pixels:
        sentence = f"{path.name} is {width}x{height}; at most {bounds.max_video_pixels} pixels a picture are taken"
        raise BadInput("TOO_MANY_PIXELS", sentence)


def _declared_seconds(container: InputContainer, stream: VideoStream) -> float | None:
    """What the file says of the stream; of the whole only where there is nothing else in it, as sound may be longer."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    tag = stream.metadata.get("DURATION", "")  # Matroska: 00:00:03.500000000
    try:
        hours, minutes, seconds = (float(part) for part in tag.split(":"))
    except ValueError:
        if not container.duration or len(container.streams) > 1:
            return None
        return container.duration / av.time_base
    return 3600 * hours + 60 * minutes + seconds


def _stamps(
    path: Path, container: InputContainer, stream: VideoStream, bounds: Bounds, still: Callable[[], None]
) -> tuple[list[int], int, str | None]:
    """Presentation stamps of all frames, without decoding them; the end of the last; what is wrong with the packets.

    What an edit list cuts away is not among them.
    """
    stamps: list[int] = []
    end, complaint = -(1 << 63), None
    try:
        for packet in container.demux(stream):
            still()
            if packet.is_corrupt:
                complaint = complaint or "packets are incomplete"
            if packet.size and packet.pts is not None and not packet.is_discard:
                stamps.append(packet.pts)
                end = max(end, packet.pts + (packet.duration or 0))
            if len(stamps) > bounds.max_video_frames:
                sentence = f"{path.name} has over {bounds.max_video_frames} frames; no more can be analysed"
                raise BadInput("TOO_MANY_FRAMES", sentence)
            check_time(bounds, f"{path.name} could not be read")
    except av.FFmpegError as error:
        check_memory(error)
        complaint = complaint or error.strerror  # what was read counts
    if not stamps:
        raise BadInput("NOT_DECODABLE", f"{path.name} holds no pictures with time stamps")
    return sorted(set(stamps)), end, complaint


def _broken_off(path: Path, container: str) -> str | None:
    """Whether a file whose container declares no length ends in the middle of something."""
    size = path.stat().st_size
    if container == "mpegts" and all(size % packet for packet in TS_PACKET_BYTES):
        return "it ends in the middle of a packet"
    if "mp4" in container and _box_past_end(path, size):
        return "it ends in the middle of a box"
    if "matroska" in container and _segment_past_end(path, size):
        return "it ends in the middle of a segment"
    return None


def _segment_past_end(path: Path, size: int) -> bool:
    """Whether a Matroska segment of known size is longer than the file: RFC 8794, 4 and 6."""
    with path.open("rb") as file:
        head = file.read(4096)
    at = head.find(SEGMENT) + len(SEGMENT)
    if at < len(SEGMENT) or at + 8 > len(head) or not head[at]:
        return False
    width = 9 - head[at].bit_length()
    length = int.from_bytes(head[at : at + width], "big") & ((1 << 7 * width) - 1)
    unknown = (1 << 7 * width) - 1
    return length != unknown and at + width + length > size


def _box_past_end(path: Path, size: int) -> bool:
    """Walks the outermost boxes of an MP4: ISO/IEC 14496-12, 4.2."""
    at = 0
    with path.open("rb") as file:
        while at + 8 <= size:
            file.seek(at)
            length, _, large = struct.unpack(">I4sQ", file.read(16).ljust(16, b"\0"))
            if length == 0:  # to the end of the file
                return False
            length = large if length == 1 else length
            if length < 8:  # no box: something else follows, which FFmpeg does without
                return False
            at += length
    return at > size


def _first_picture(path: Path, container: InputContainer, stream: VideoStream, still: Callable[[], None]) -> VideoFrame:
    """The first picture that decodes; one broken packet does not condemn the rest."""
    reason = "no picture in it can be decoded"
    try:
        for packet in container.demux(stream):
            still()
            try:
                for frame in packet.decode():
                    return frame
            except av.FFmpegError as error:
                check_memory(error, packet)
                reason = f"it breaks off or cannot be decoded ({error.strerror})"
    except av.FFmpegError as error:
        check_memory(error)
        reason = f"it cannot be read to its first picture ({error.strerror})"
    raise BadInput("NOT_DECODABLE", f"{path.name} is not usable: {reason}")
