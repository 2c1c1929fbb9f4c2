"""Writes pictures as H.264, each at its own time since the video's first frame."""

from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
from av.container import OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from services.analyzer.arrays import Indices
from services.analyzer.video.frames import PlanarPicture
from services.analyzer.video.probe import Video

CLOCK = Fraction(1, 90_000)


class Encoder:
    """Encodes chosen frames of a video into a stream; each lasts until the next one or the video's end."""

    def __init__(self, container: OutputContainer, stream: VideoStream, video: Video, chosen: Indices) -> None:
        """Sets the stream's format, clock and colours; chosen: indices into video.pts."""
        self._container = container
        self._stream = stream
        ticks = np.round(np.append(video.times[chosen], video.end_seconds) / float(CLOCK)).astype(int).tolist()
        self._starts = dict(zip(chosen.tolist(), ticks, strict=False))
        # The encoder drops the durations of the frames, and the last frame's would be unlimited.
        self._durations = {start: end - start for start, end in pairwise(ticks)}
        context = stream.codec_context
        stream.pix_fmt, context.time_base = "yuv420p", CLOCK
        # The decoder converts pictures of high dynamic range to BT.709, number 1 of each kind in ITU-T H.273.
        context.color_primaries, context.color_trc, context.colorspace = (1, 1, 1) if video.hdr else video.colors

    def write(self, picture: PlanarPicture) -> None:
        """Encode the next picture."""
        frame = av.VideoFrame.from_ndarray(picture.flat.reshape(-1, picture.width), format="yuv420p")
        frame.pts, frame.time_base = self._starts[picture.index], CLOCK
        self._write_packets(self._stream.encode(frame))

    def finish(self) -> None:
        """Write the pictures that the encoder holds back."""
        self._write_packets(self._stream.encode())

    def _write_packets(self, packets: "list[Packet[VideoStream]]") -> None:
        for packet in packets:
            packet.duration = self._durations.get(packet.pts or 0, 0)
            self._container.mux(packet)
