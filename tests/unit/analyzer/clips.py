"""Small videos with exactly known frames: each picture carries its own number in black and white blocks."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from services.analyzer.decode import RGB

BITS, BLOCK = 10, 16
WIDTH, HEIGHT = BITS * BLOCK, 64
CLOCK = Fraction(1, 90_000)
IDENTITY = bytes.fromhex("00010000 00000000 00000000 00000000 00010000 00000000 00000000 00000000 40000000")
QUARTER_CLOCKWISE = bytes.fromhex("00000000 00010000 00000000 FFFF0000 00000000 00000000 00000000 00000000 40000000")


def picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> RGB:
    """Blocks along the top are the number's bits, lowest at the left; below, dark at the left, light at the right."""
    rgb = np.zeros((height, width, 3), dtype=np.uint8)
    rgb[:] = np.linspace(40, 200, width, dtype=np.uint8)[None, :, None]
    for bit in range(BITS):
        rgb[:BLOCK, bit * BLOCK : (bit + 1) * BLOCK] = 255 * (number >> bit & 1)
    return rgb


def number_of(rgb: RGB) -> int:
    """The number in an upright picture of any size."""
    scale = rgb.shape[1] / WIDTH
    middle = int(BLOCK * scale / 2)
    return sum((int(rgb[middle, int((bit + 0.5) * BLOCK * scale), 0]) > 127) << bit for bit in range(BITS))


def even(fps: float, count: int) -> list[float]:
    """Times of `count` frames at a constant rate."""
    return [k / fps for k in range(count)]


def write_clip(
    path: Path,
    times: Sequence[float],
    *,
    codec: str = "libx264",
    size: tuple[int, int] = (WIDTH, HEIGHT),
    options: dict[str, str] | None = None,
) -> Path:
    """A video whose k-th picture is picture(k), shown at times[k] seconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30, options={"crf": "12"} | (options or {}))
        stream.width, stream.height = size
        stream.pix_fmt, stream.codec_context.time_base = "yuv420p", CLOCK
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(number, *size), format="rgb24")
            frame.pts, frame.time_base = round(time / CLOCK), CLOCK
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def tag_rotation(path: Path) -> Path:
    """Say in the file that its pictures are to be turned 90 degrees clockwise, as a phone held upright does."""
    content = path.read_bytes()
    track = content.index(b"tkhd")
    at = content.index(IDENTITY, track)
    path.write_bytes(content[:at] + QUARTER_CLOCKWISE + content[at + len(IDENTITY) :])
    return path
