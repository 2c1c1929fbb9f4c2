"""Picks the moments that a report shows and fetches their pictures: events first, then where each finding is worst."""

from itertools import chain

import cv2
import numpy as np

from services.analyzer.decode import Losses, Picture, pictures
from services.analyzer.drawing import skeleton_at
from services.analyzer.probe import Video
from services.analyzer.report import MOST_KEY_FRAMES, KeyFrame
from services.analyzer.results import Results
from services.analyzer.series import Poses
from services.analyzer.settings import Limits
from services.analyzer.veil import Veil, veiled

LONG_SIDE = 720
JPEG_QUALITY = 82
# Two moments nearer than this are one picture with both captions.
APART_SECONDS = 0.05
CAPTIONS = {
    "front_foot_contact": "Front-foot contact",
    "release": "Ball release",
    "fastest_hands": "Hands at their fastest",
}


def key_frames(
    video: Video, poses: Poses, results: Results, limits: Limits, veil: Veil | None = None
) -> list[KeyFrame]:
    """The report's pictures with landmarks, in order of time."""
    captions = _moments(results)
    nearest = {int(np.argmin(np.abs(video.times - moment))): caption for moment, caption in captions.items()}
    source = pictures(video, np.array(sorted(nearest), dtype=np.intp), limits, Losses(), LONG_SIDE)
    return [_key_frame(veiled(picture, veil), poses, nearest[picture.index]) for picture in source]


def _moments(results: Results) -> dict[float, str]:
    """Seconds to caption, at most as many as a report holds."""
    events = [
        (e["time_seconds"], CAPTIONS.get(e["name"], e["name"])) for e in results["pose"]["pose_summary"]["events"]
    ]
    faults = [(f["time_seconds"], f["title"]) for f in results["findings"]["findings"] if f["time_seconds"] is not None]
    chosen: dict[float, str] = {}
    for moment, caption in chain(events, faults):
        same = next((known for known in chosen if abs(known - moment) < APART_SECONDS), None)
        if same is not None:
            chosen[same] = f"{chosen[same]}; {caption}"
        elif len(chosen) < MOST_KEY_FRAMES:
            chosen[moment] = caption
    return chosen


def _key_frame(picture: Picture, poses: Poses, caption: str) -> KeyFrame:
    height, width = picture.rgb.shape[:2]
    points, visibility = skeleton_at(poses, picture.time_seconds)
    _, jpeg = cv2.imencode(".jpg", picture.rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    scale = (width / poses.width, height / poses.height)
    return KeyFrame(picture.time_seconds, jpeg.tobytes(), width, height, points * scale, visibility, caption)
