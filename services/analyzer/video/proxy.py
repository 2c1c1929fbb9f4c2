"""Writes a film at the size that an analysis needs: the same pictures and times, in far fewer bytes.

The analysis makes larger pictures smaller itself and takes at most 60 frames a second. Sound is left out.
"""

from pathlib import Path

import av
from av.video.stream import VideoStream

from services.analyzer.settings import Limits
from services.analyzer.video.encoder import Encoder
from services.analyzer.video.frames import LONG_SIDE, Losses, even_size, planar_pictures
from services.analyzer.video.probe import Video
from services.analyzer.video.sampling import every

# At this quality the pose model's landmarks differ from those of the original by less than their own noise.
OPTIONS = {"preset": "veryfast", "crf": "20", "bf": "2", "g": "60"}


def write_proxy(video: Video, limits: Limits, out: Path) -> None:
    """Write the film to `out` as H.264, upright, its longer side at most LONG_SIDE."""
    chosen = every(video.times, 0.0, float(video.times[-1]))
    with av.open(str(out), "w", format="mp4") as container:
        stream: VideoStream = container.add_stream("libx264", rate=30, options=OPTIONS)
        stream.width, stream.height = even_size(video, LONG_SIDE)
        encoder = Encoder(container, stream, video, chosen)
        for picture in planar_pictures(video, chosen, limits, Losses(), LONG_SIDE):
            encoder.write(picture)
        encoder.finish()
