"""Writes a film at the size that an analysis needs: the same pictures and times, in far fewer bytes.

The analysis makes larger pictures smaller itself and takes at most 60 frames a second. Sound is left out.
The times are those of real life, so a slowed film becomes one in real time.
"""

from dataclasses import replace
from pathlib import Path

import av
from av.video.stream import VideoStream

from services.analyzer.errors import BadInput
from services.analyzer.sandbox.container import CAPTURE_FPS_TAG
from services.analyzer.settings import Limits
from services.analyzer.video.encoder import Encoder
from services.analyzer.video.frames import LONG_SIDE, Losses, even_size, planar_pictures
from services.analyzer.video.probe import Video
from services.analyzer.video.sampling import every

# At a lower quality the front knee of a bowler in 4K changed: `make bench NAME=proxy`.
OPTIONS = {"preset": "medium", "crf": "22", "bf": "2", "g": "60"}


def write_proxy(
    video: Video, limits: Limits, out: Path, options: dict[str, str] = OPTIONS, long_side: int = LONG_SIDE
) -> None:
    """Write the film to `out` as H.264, upright, its longer side at most `long_side`. options: of the encoder.

    Raises BadInput for a film of which the smaller one would hide damage, or a place where its parts were joined.
    """
    if video.damage or video.join_seconds or video.ignored_recordings:
        raise _refusal(video, video.damage or "it consists of several recordings")
    # The pose model gets the levels of the film, also of one of high dynamic range: so they stay, with their tags.
    video = replace(video, hdr=None)
    chosen, losses = every(video.times, 0.0, float(video.times[-1])), Losses()
    with av.open(str(out), "w", format="mp4", options={"movflags": "use_metadata_tags"}) as container:
        if video.capture_fps and len(chosen) > 1:  # an analysis then knows that this film plays in real time
            container.metadata[CAPTURE_FPS_TAG] = f"{(len(chosen) - 1) / float(video.times[-1]):.3f}"
        stream: VideoStream = container.add_stream("libx264", rate=30, options=options)
        stream.width, stream.height = even_size(video, long_side)
        encoder = Encoder(container, stream, video, chosen)
        for picture in planar_pictures(video, chosen, limits, losses, long_side, exact=True):
            encoder.write(picture)
        encoder.finish()
    if losses.message or losses.resized_seconds is not None:
        raise _refusal(video, losses.message or "its picture changes its shape")


def _refusal(video: Video, reason: str) -> BadInput:
    return BadInput("BAD_INPUT", f"{video.path.name} cannot be made smaller: {reason}; send it without --proxy")
