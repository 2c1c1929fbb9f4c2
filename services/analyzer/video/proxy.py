"""Writes a film at the size that an analysis needs: the same pictures and times, in far fewer bytes.

The analysis makes larger pictures smaller itself and takes at most 60 frames a second. Sound is left out.
"""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
from av.video.stream import VideoStream

from services.analyzer.settings import Limits
from services.analyzer.video.frames import LONG_SIDE, Losses, even_size, planar_pictures
from services.analyzer.video.probe import Video
from services.analyzer.video.sampling import every

CLOCK = Fraction(1, 90_000)
# At this quality the pose model's landmarks differ from those of the original by less than their own noise.
ENCODER = {"preset": "veryfast", "crf": "20", "bf": "2", "g": "60"}


def write_proxy(video: Video, limits: Limits, out: Path) -> None:
    """Write the film to `out` as H.264, upright, its longer side at most LONG_SIDE."""
    chosen, losses = every(video.times, 0.0, float(video.times[-1])), Losses()
    ticks = [round(time / float(CLOCK)) for time in (*video.times[chosen].tolist(), video.end_seconds)]
    starts = dict(zip(chosen.tolist(), ticks, strict=False))
    lengths = {start: end - start for start, end in pairwise(ticks)}
    with av.open(str(out), "w", format="mp4") as container:
        stream: VideoStream = container.add_stream("libx264", rate=30, options=ENCODER)
        stream.width, stream.height = even_size(video, LONG_SIDE)
        stream.pix_fmt, stream.codec_context.time_base = "yuv420p", CLOCK
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace = (1, 1, 1) if video.hdr else video.colors
        for picture in planar_pictures(video, chosen, limits, losses, LONG_SIDE):
            frame = av.VideoFrame.from_ndarray(picture.flat.reshape(-1, picture.width), format="yuv420p")
            frame.pts, frame.time_base = starts[picture.index], CLOCK
            for packet in stream.encode(frame):
                packet.duration = lengths.get(packet.pts or 0, 0)
                container.mux(packet)
        for packet in stream.encode():
            packet.duration = lengths.get(packet.pts or 0, 0)
            container.mux(packet)
