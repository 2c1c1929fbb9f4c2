"""Reads the metadata of a file and the time stamps of its packets, which may differ. Runs in the sandbox.

    container ─▶ picture size ─▶ time stamps of all packets ─▶ first picture ─▶ facts

Only single-file containers are accepted: a playlist that claims to be a video could make FFmpeg read other files.
"""

import struct
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.sidedata.sidedata import Type
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from services.analyzer.errors import BadInput
from services.analyzer.sandbox import fields
from services.analyzer.sandbox.limits import SandboxLimits
from services.analyzer.sandbox.timeline import Timeline
from services.containers import avi, header, matroska, mp4
from services.file_signatures import TS_PACKET_BYTES
from services.rules import film_limits
from services.rules.limits import is_capture_fps

CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg"
# Transfer characteristics of high dynamic range: ITU-T H.273, TransferCharacteristics 16 and 18.
HDR = {16: "pq", 18: "hlg"}
# No film: cover pictures, thumbnails and other still pictures.
NO_FILM = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
# A track of Matroska that lasts no longer than two pictures of a slow film.
ONE_PICTURE_SECONDS = 0.1
# So many packets before a further recording begins may be incomplete, by their order in the file.
CUT_PACKETS = 4
# So many steps between frames show how long a frame of an interlaced stream lasts.
STEPS = 8
# The end code of an MPEG program stream. Zeros after it pad the file; without it they replace what was there.
PROGRAM_END, FEWEST_ZEROS, ZEROS_SEARCHED = b"\0\0\1\xb9", 16, 65536
MOST_PACKET_BYTES = 65536
# Android's cameras write the rate at which they recorded; a slow-motion file plays slower. iPhones write no such tag:
# their originals play in real time at the full rate.
CAPTURE_FPS_TAG = "com.android.capture.fps"
# How to turn a stored picture upright: swap the axes, then flip left-right, then flip top-bottom.
Orientation = tuple[bool, bool, bool]


def inspect(
    arguments: dict[str, Any], limits: SandboxLimits, report_alive: Callable[[], None]
) -> Generator[Any, None, dict[str, Any]]:
    """The fields of `probe.Video` for the file at arguments["path"], as JSON values. Raises BadInput."""
    yield from ()
    path = Path(arguments["path"])
    movie = read_movie(path)
    with opened(path, limits, movie) as source:
        container, stream = source.container, source.stream
        _check_pixels(path, stream.width, stream.height, limits)
        track = _track_of(movie, stream)
        declares = header.read(path)
        if declares and declares.dolby_vision == film_limits.ONLY_DOLBY:
            raise BadInput("NOT_DECODABLE", film_limits.only_dolby(path.name))
        begins = _clock_begins(container)
        stamps, hidden, end, packet_error = _read_stamps(path, source, limits, report_alive)
        packet_error = packet_error or _find_truncation(path, container.format.name, movie)
        packet_error = packet_error or (movie.fault(track) if movie and track else None)
        joins, later = source.timeline.joins, source.timeline.later_streams
        declared = track.played_seconds if track else None
        if not (declared or joins or (track and track.needs_own_clock)):
            declared = _declared_seconds(container, stream)
        if track and stream.time_base:
            joins = [round(cut / stream.time_base) for cut in track.cuts]
    with opened(path, limits, movie) as source:
        stream = source.stream
        first = _first_picture(path, source, report_alive)
        _check_pixels(path, first.width, first.height, limits)
        if first.interlaced_frame:
            stamps = fields.whole_frames(stamps, _frame_step(source, first))
        turn = orientation(first)
        width, height = upright_size(first, stream, turn)
        tick = stream.time_base or Fraction(1, 1000)
        if first.interlaced_frame:
            stamps, end, tick = fields.stamps(stamps), 2 * end, tick / 2
        return {
            "container": source.container.format.name,
            "codec": stream.codec_context.name,
            "pixel_format": first.format.name,
            "hdr": HDR.get(int(first.color_trc)),
            "colors": (int(first.color_primaries), int(first.color_trc), int(first.colorspace)),
            "width": width,
            "height": height,
            "orientation": turn,
            "interlaced": bool(first.interlaced_frame),
            "declared_fps": float(stream.average_rate) if stream.average_rate else None,
            "capture_fps": _capture_fps(container),
            "declared_seconds": declared,
            "declared_frames": 0 if track and (track.is_trimmed or track.is_scaled) else max(stream.frames - hidden, 0),
            "time_base": (tick.numerator, tick.denominator),
            "pts": stamps,
            "end": end,
            "packet_error": packet_error,
            "clock_begins": begins,
            "joins": [2 * join for join in joins] if first.interlaced_frame else joins,
            "tracks": source.tracks - later,
            "ignored_recordings": movie.recordings - 1 if movie else int(source.skips_recording) + later,
            "slowed": bool(track and track.is_scaled),
        }


@dataclass(frozen=True)
class Source:
    """An open file, its video stream and that stream's packets. tracks: how many video streams it has.

    skips_recording: whether another recording follows, whose packets are left out.
    """

    container: InputContainer
    stream: VideoStream
    timeline: Timeline
    tracks: int
    skips_recording: bool


@contextmanager
def opened(path: Path, limits: SandboxLimits, movie: mp4.Movie | None) -> Iterator[Source]:
    """The file, open during the block, at the video stream that a player shows. Raises BadInput."""
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file", "max_pixels": str(limits.max_video_pixels)}
    if movie and any(track.is_video and track.needs_own_clock for track in movie.tracks):
        options["ignore_editlist"] = "1"  # the timeline applies the edit list
    try:
        container = av.open(str(path), options=options)
    except (av.FFmpegError, ValueError) as error:
        check_memory(error)
        declares = header.read(path)
        is_whole = declares is None or declares.has_index
        fault = f"{path.name} is not a video that can be read" if is_whole else film_limits.no_index(path.name)
        raise BadInput("NOT_A_VIDEO", fault) from error
    with container:
        moving = [s for s in container.streams.video if not s.disposition & NO_FILM]
        if not moving:
            raise BadInput("NO_VIDEO_STREAM", film_limits.no_pictures(path.name))
        decodable = [s for s in moving if s.codec_context]
        if not decodable:
            raise BadInput("NOT_DECODABLE", f"{path.name} has a video codec that cannot be decoded")
        # As a player chooses: the default track; of several, the one with the largest picture, and then the first.
        stream = max(
            decodable,
            key=lambda s: (not _is_one_picture(s), bool(s.disposition & Disposition.default), s.width * s.height),
        )
        track = _track_of(movie, stream)
        edits = track.edits if track and "ignore_editlist" in options else ()
        recording = avi.read(path) if container.format.name == "avi" else None
        end = recording.end if recording and recording.has_another else None
        yield Source(container, stream, Timeline(container, stream, edits, end), len(moving), end is not None)


def _is_one_picture(stream: VideoStream) -> bool:
    """Whether the file declares a track of one picture, such as a cover that has no tag."""
    return stream.frames == 1 or 0 < _tagged_seconds(stream) < ONE_PICTURE_SECONDS


def read_movie(path: Path) -> mp4.Movie | None:
    """The movie box of an MP4 or QuickTime file; None for another container, or a box that cannot be read."""
    with path.open("rb") as file:
        if file.read(8)[4:] not in mp4.FIRST_BOXES:
            return None
    try:
        return mp4.read(path)
    except (struct.error, ValueError):
        return None


def _track_of(movie: mp4.Movie | None, stream: VideoStream) -> mp4.Track | None:
    """The movie's track of a stream; None in another container. FFmpeg takes over the track's number."""
    tracks = movie.tracks if movie else ()
    return next((track for track in tracks if track.is_video and track.number == stream.id), None)


def _clock_begins(container: InputContainer) -> float:
    """Where a player's clock begins, in seconds of the stamps: at 0 in an MP4, else with the first stream."""
    if "mp4" in container.format.name or container.start_time is None:
        return 0.0
    return container.start_time / av.time_base


def check_memory(error: Exception, packet: "Packet[VideoStream] | None" = None) -> None:
    """Raise MemoryError if FFmpeg failed for lack of memory, or of threads that need it: the packet is not at fault.

    A decoder without memory for a picture may report an invalid packet. Allocating a picture here tells the two apart.
    """
    if isinstance(error, MemoryError | BlockingIOError):
        raise MemoryError from error
    if packet:
        decoder = packet.stream.codec_context
        np.empty((decoder.height, decoder.width, 3), np.uint8)


def check_time(limits: SandboxLimits, failure: str) -> None:
    """Raise BadInput if this process exceeded its CPU time; `failure` begins the message."""
    if time.process_time() > limits.max_decode_seconds:
        raise BadInput("TOO_SLOW", f"{failure} within {limits.max_decode_seconds:.0f} s of CPU time")


def orientation(frame: VideoFrame) -> Orientation:
    """How to turn a stored picture upright: the nearest of the eight orientations to its display matrix.

    Only for a first picture: PyAV keeps a frame whose side data was read until Python collects its garbage.

    The matrix sends stored (p, q) to (a p + c q, b p + d q): ISO/IEC 14496-12, 8.2.2.
    """
    # PyAV has no types for side data.
    matrices: list[bytes] = [bytes(data) for data in frame.side_data if data.type == Type.DISPLAYMATRIX]  # type: ignore[arg-type, attr-defined]
    if not matrices:
        return False, False, False
    a, b, _, c, d, *_ = struct.unpack("<9i", matrices[0])
    if abs(b) + abs(c) > abs(a) + abs(d):
        return True, c < 0, b < 0
    return False, a < 0, d < 0


def upright_size(frame: VideoFrame, stream: VideoStream, turn: Orientation) -> tuple[int, int]:
    """Width and height of the upright picture with square pixels."""
    aspect = stream.sample_aspect_ratio or Fraction(1)
    width = max(round(frame.width * aspect), 1) if aspect > 0 else frame.width
    return (frame.height, width) if turn[0] else (width, frame.height)


def _check_pixels(path: Path, width: int, height: int, limits: SandboxLimits) -> None:
    if width <= 0 or height <= 0:
        raise BadInput("NOT_DECODABLE", f"{path.name} declares no picture size")
    if width * height > limits.max_video_pixels:
        sentence = film_limits.too_many_pixels(path.name, width, height, limits.max_video_pixels)
        raise BadInput("TOO_MANY_PIXELS", sentence)


def _capture_fps(container: InputContainer) -> float | None:
    """The rate at which the camera recorded, by its tag; None without a valid one."""
    try:
        rate = float(container.metadata.get(CAPTURE_FPS_TAG, ""))
    except ValueError:
        return None
    return rate if rate and is_capture_fps(rate) else None


def _declared_seconds(container: InputContainer, stream: VideoStream) -> float | None:
    """The stream's declared length; the container's only if it has no other stream, because sound may be longer."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    # Matroska declares where the stream ends, not how long it lasts.
    begins = max(float(stream.start_time * stream.time_base), 0.0) if stream.start_time and stream.time_base else 0.0
    if seconds := _tagged_seconds(stream):
        return seconds - begins
    if not container.duration or len(container.streams) > 1:
        return None
    return container.duration / av.time_base


def _tagged_seconds(stream: VideoStream) -> float:
    """When a stream of a Matroska file ends by its tag, such as 00:00:03.500000000; 0 without one."""
    try:
        hours, minutes, seconds = (float(part) for part in stream.metadata.get("DURATION", "").split(":"))
    except ValueError:
        return 0.0
    return 3600 * hours + 60 * minutes + seconds


def _read_stamps(
    path: Path, source: Source, limits: SandboxLimits, report_alive: Callable[[], None]
) -> tuple[list[int], int, int, str | None]:
    """Presentation stamps of all frames, how many frames an edit list hides, the last frame's end, the first error.

    Decodes no frame. A packet that is incomplete just before a further recording begins is no error: it was cut there.
    """
    stamps: list[int] = []
    hidden, error_message, incomplete = 0, None, list[int]()
    last = (-(1 << 63), 0)  # the stamp of the frame that is shown last, and how long it lasts
    timeline, joins = source.timeline, 0
    try:
        for number, packet in enumerate(timeline.packets()):
            report_alive()
            if len(timeline.joins) > joins:
                joins, incomplete = len(timeline.joins), [n for n in incomplete if n < number - CUT_PACKETS]
            if packet.is_corrupt:
                incomplete.append(number)
            if packet.size and packet.pts is not None and not packet.is_discard:
                stamps.append(packet.pts)
                last = max(last, (packet.pts, packet.duration or 0))
            elif packet.size:
                hidden += 1
            if len(stamps) > limits.max_video_frames:
                raise BadInput("TOO_MANY_FRAMES", film_limits.too_many_frames(path.name, limits.max_video_frames))
            check_time(limits, f"{path.name} could not be read")
    except av.FFmpegError as error:
        check_memory(error)
        error_message = error.strerror  # the stamps so far stay valid
    if not stamps:
        raise BadInput("NOT_DECODABLE", f"{path.name} has no pictures with time stamps")
    if timeline.has_holes:
        error_message = "parts of it hold no pictures"
    return sorted(set(stamps)), hidden, sum(last), "packets are incomplete" if incomplete else error_message


def _find_truncation(path: Path, container: str, movie: mp4.Movie | None) -> str | None:
    """How a file is truncated, None if it is not; for containers that declare no length."""
    size = path.stat().st_size
    if container == "mpegts" and all(size % packet for packet in TS_PACKET_BYTES):
        return "it ends in the middle of a packet"
    if container == "mpegts" and _count_zeros(path, size)[0] >= max(TS_PACKET_BYTES):
        return "it ends in zeros"
    if "mp4" in container and _box_past_end(path, size):
        return "it ends in the middle of a box"
    if movie and movie.is_fragmented and movie.ends_in_zeros:
        return "it ends in zeros"
    if "matroska" in container:
        return matroska.find_cut(path)
    if container == "mpeg" and _ends_in_zeros(path, size):
        return "it ends in zeros"
    if container == "mpeg" and _has_hole(path):
        return "parts of it hold no pictures"
    return None


def _has_hole(path: Path) -> bool:
    """Whether an MPEG program stream has more zeros in a row than a packet can have bytes: ISO/IEC 13818-1, 2.4.3.7."""
    zeros = bytes(MOST_PACKET_BYTES)
    with path.open("rb") as file:
        return zeros in iter(lambda: file.read(MOST_PACKET_BYTES), b"")


def _ends_in_zeros(path: Path, size: int) -> bool:
    """Whether an MPEG program stream ends in zeros without the end code before them: ISO/IEC 13818-1, 2.5.3.1."""
    zeros, before = _count_zeros(path, size)
    return zeros >= FEWEST_ZEROS and before != PROGRAM_END


def _count_zeros(path: Path, size: int) -> tuple[int, bytes]:
    """How many zeros end the file, of those searched, and the four bytes before them."""
    with path.open("rb") as file:
        file.seek(max(size - ZEROS_SEARCHED, 0))
        tail = file.read()
    written = tail.rstrip(b"\0")
    return len(tail) - len(written), written[-len(PROGRAM_END) :]


def _box_past_end(path: Path, size: int) -> bool:
    """Whether one of the outermost boxes of an MP4 ends after the file: ISO/IEC 14496-12, 4.2."""
    with path.open("rb") as file:
        return any(end > size for _, _, end in mp4.boxes(file, 0, size))


def _frame_step(source: Source, first: VideoFrame) -> int:
    """Ticks from one frame to the next, which may consist of two packets with a field each; 0 for a single frame."""
    shown = [first.pts]
    with suppress(av.FFmpegError):
        for packet in source.timeline.packets():
            shown += [frame.pts for frame in packet.decode()]
            if len(shown) > STEPS:
                break
    stamps = [stamp for stamp in shown if stamp is not None]
    return int(median(after - now for now, after in pairwise(stamps))) if len(stamps) > 1 else 0


def _first_picture(path: Path, source: Source, report_alive: Callable[[], None]) -> VideoFrame:
    """The first picture that decodes, after any number of broken packets. Raises BadInput if there is none."""
    reason = "no picture in it can be decoded"
    try:
        for packet in source.timeline.packets():
            report_alive()
            try:
                for frame in packet.decode():
                    return frame
            except av.FFmpegError as error:
                check_memory(error, packet)
                reason = f"it is truncated or cannot be decoded ({error.strerror})"
    except av.FFmpegError as error:
        check_memory(error)
        reason = f"its first picture cannot be read ({error.strerror})"

    raise BadInput("NOT_DECODABLE", f"{path.name} is not usable: {reason}")
