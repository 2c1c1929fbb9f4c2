"""Looks into a film before it is sent: refuses one that an analysis refuses, and makes a smaller one on request.

Where the analyzer is installed (`make setup`), it looks itself, in its sandbox. Elsewhere the container's header tells
the length, the pictures and the tracks.
"""

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from crease.upload.v1.upload_pb2 import GetUploadLimitsResponse
from services.cli.errors import BAD_INPUT, CommandError
from services.containers import header
from services.rules import exit_codes, film_limits
from services.rules.printable import one_line

# Imported by their names, because no program imports another; both lack on a machine that only sends films.
ANALYZER, PACKAGES = "services.analyzer.__main__", ("av", "cv2", "numpy")
# A smaller film is worth its time above this size: the analysis makes larger pictures smaller itself.
PROXY_FROM_BYTES, PROXY_FROM_LONG_SIDE, PROXY_FPS = 200_000_000, 1920, 60
# Bits for each pixel of the smaller films of bowlers in 4K: `make bench NAME=proxy`.
PROXY_BITS_PER_PIXEL = 0.12
# A smaller film that saves less than a fifth of the bytes costs more time than it saves.
WORTH_SHARE = 0.8


@dataclass(frozen=True)
class Film:
    """Facts of a film; 0 for each that is unknown. notes: sentences for the user."""

    seconds: float = 0.0
    width: int = 0
    height: int = 0
    frames: int = 0
    notes: tuple[str, ...] = ()

    def is_larger_than_needed(self, size_bytes: int) -> bool:
        """Whether an analysis gains nothing from the whole film."""
        return size_bytes > PROXY_FROM_BYTES or max(self.width, self.height) > PROXY_FROM_LONG_SIDE

    def saves_nothing(self, size_bytes: int) -> str:
        """The sentence for a film whose smaller one is hardly smaller, by an estimate; else empty."""
        shrink = min(1.0, PROXY_FROM_LONG_SIDE / max(self.width, self.height, 1))
        frames = min(self.frames, PROXY_FPS * self.seconds)
        smaller = PROXY_BITS_PER_PIXEL * self.width * self.height * shrink**2 * frames / 8
        if smaller < WORTH_SHARE * size_bytes:
            return ""
        sizes = f"about {smaller / 1e6:.1f} MB instead of {size_bytes / 1e6:.1f} MB"
        return f"A smaller film would have {sizes}: the original is sent."


def look(path: Path, limits: GetUploadLimitsResponse) -> Film:
    """The facts of a film within the limits. Raises CommandError with the analysis's own sentence."""
    size, most = path.stat().st_size, limits.max_content_length
    if most and size > most:
        _refuse(film_limits.too_large(one_line(path.name), size, most))
    return _probe(path, limits) if has_analyzer() else _check_header(path, limits)


def make_proxy(path: Path, proxy: Path, limits: GetUploadLimitsResponse, capture_fps: float = 0) -> None:
    """Writes the film at the size that an analysis needs, in real time. Raises CommandError.

    capture_fps: the rate at which the camera recorded, as the user states it; 0: as the film says.
    """
    if not has_analyzer():
        raise CommandError("--proxy needs the analyzer on this machine: run `make setup`, or omit --proxy.", BAD_INPUT)
    proxy.parent.mkdir(parents=True, exist_ok=True)
    draft = proxy.with_suffix(".new.mp4")
    try:
        _run(path, limits, "--proxy", str(draft), *(["--capture-fps", f"{capture_fps:g}"] if capture_fps else []))
        draft.replace(proxy)
    finally:
        draft.unlink(missing_ok=True)


def has_analyzer() -> bool:
    """Whether the analyzer and its packages are installed on this machine."""
    try:
        return all(importlib.util.find_spec(name) for name in (ANALYZER, *PACKAGES))
    except ImportError:
        return False


def _probe(path: Path, limits: GetUploadLimitsResponse) -> Film:
    facts = json.loads(_run(path, limits, "--probe"))
    return Film(facts["seconds"], facts["width"], facts["height"], facts["frames"], tuple(facts["notes"]))


def _run(path: Path, limits: GetUploadLimitsResponse, *what: str) -> str:
    """The output of the analyzer's program on a film. Raises CommandError if it refuses the film."""
    command = [sys.executable, "-m", "services.analyzer", "--video", str(path.absolute()), *what]
    values = {
        "CREASE_MAX_VIDEO_BYTES": limits.max_content_length,
        "CREASE_MAX_VIDEO_SECONDS": limits.max_duration.ToTimedelta().total_seconds(),
        "CREASE_MAX_VIDEO_PIXELS": limits.max_picture_pixels,
        "CREASE_MAX_VIDEO_FRAMES": limits.max_frames,
    }
    environment = os.environ | {name: str(value) for name, value in values.items() if value}
    root = Path(__file__).parents[3]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, env=environment)
    if done.returncode == exit_codes.BAD_INPUT:
        raise CommandError(f"{done.stderr.strip()}.", BAD_INPUT)
    if done.returncode:
        raise CommandError(f"The analyzer cannot read {one_line(path.name)}: {done.stderr.strip()}")
    return done.stdout


def _check_header(path: Path, limits: GetUploadLimitsResponse) -> Film:
    found = header.read(path)
    if found is None:  # an MPEG stream, or a header that only the analyzer can read
        return Film()
    if not found.has_index:
        _refuse(film_limits.no_index(one_line(path.name)))
    if not found.has_video:
        _refuse(film_limits.no_pictures(one_line(path.name)))
    if found.dolby_vision == film_limits.ONLY_DOLBY:
        _refuse(film_limits.only_dolby(one_line(path.name)))
    seconds = limits.max_duration.ToTimedelta().total_seconds()
    if seconds and found.seconds > seconds:
        _refuse(film_limits.too_long(one_line(path.name), found.seconds, seconds))
    if limits.max_picture_pixels and found.width * found.height > limits.max_picture_pixels:
        _refuse(film_limits.too_many_pixels(one_line(path.name), found.width, found.height, limits.max_picture_pixels))
    if limits.max_frames and found.frames > limits.max_frames:
        _refuse(film_limits.too_many_frames(one_line(path.name), limits.max_frames))
    return Film(found.seconds, found.width, found.height, found.frames)


def _refuse(sentence: str) -> None:
    raise CommandError(f"{sentence}.", BAD_INPUT)
