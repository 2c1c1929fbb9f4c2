"""Measures whole analyses of films as phones record them: HEVC in 4K and 8K, uneven times, 240 frames a second.

Each film is made from the shipped sample; time and memory are compared with those of a plain film in the same run.
A film of 4K, 8K or many minutes repeats the packets of a short one, which costs little to make.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
from av.video.frame import PictureType
from av.video.stream import VideoStream

from bench.analyzer import FOUR_K, FULL_HD, MB, SAMPLE, children_cpu, measured, peak_memory, repeated
from bench.figures import Figure

EIGHT_K, SMALL = (7680, 4320), (960, 540)
H264 = ("libx264", {"preset": "ultrafast", "bf": "2", "g": "60"})
HEVC = ("libx265", {"preset": "ultrafast", "x265-params": "log-level=none:bframes=2:keyint=60"})
# Of the analyzer's pod, in the chart's default values; what a 4K film may take of it.
POD_MB, FOUR_K_MB = 2048, 900
FRAMES, FPS = 105, 30
# A stroke, and the wait until the next ball.
BALL_SECONDS = 30
LONG_MINUTES = 5


@dataclass
class Used:
    """What the analysis of one film took. cpu: seconds for each second of the film; memory: MB."""

    cpu: float
    memory: float


def run() -> Iterator[Figure]:
    """Figures of every kind of film."""
    with tempfile.TemporaryDirectory(prefix="crease-bench-") as name:
        folder = Path(name)
        plain = used(write(folder, "plain", FULL_HD, FPS, range(FRAMES), copies=3), folder)
        yield Figure("films.plain_memory", plain.memory, "MB", how="10.5 s of 1080p, H.264, 30 frames a second")
        yield Figure("films.plain_cpu", plain.cpu, "s/s", how="of one second of that film")
        twice, eightfold = [k // 2 for k in range(2 * FRAMES)], [k // 8 for k in range(8 * FRAMES)]
        uneven = [k / FPS + (0.4 / FPS if k % 3 else 0) for k in range(FRAMES)]
        kinds: dict[str, Callable[[], Path]] = {
            "4k_hevc_60fps": lambda: write(folder, "4k", FOUR_K, 60, twice, copies=3, codec=HEVC),
            "8k_hevc": lambda: write(folder, "8k", EIGHT_K, FPS, range(30, 60), copies=10, codec=HEVC),
            "vfr": lambda: write(folder, "vfr", FULL_HD, FPS, range(FRAMES), copies=3, times=uneven),
            "240fps": lambda: write(folder, "240fps", FULL_HD, 240, eightfold, copies=3),
        }
        found = {}
        for kind, make in kinds.items():
            found[kind] = used(make(), folder)
            yield from figures(kind, found[kind], plain)
        growth = found["8k_hevc"].memory / found["4k_hevc_60fps"].memory
        yield Figure("films.8k_memory_to_4k", growth, "ratio", how="10 s each, both HEVC")
        yield from long(folder)
        large = used(repeated(folder / "4k_long.mp4", folder / "4k.mp4", 12), folder)
        growth = large.memory / found["4k_hevc_60fps"].memory
        yield Figure("films.4k_hevc_60fps_memory_growth", growth, "ratio", 1.1, how="42 s against 10.5 s")


def figures(kind: str, taken: Used, plain: Used) -> Iterator[Figure]:
    """Time and memory of one film, beside the plain one's."""
    how = f"{taken.memory:.0f} MB against {plain.memory:.0f}"
    yield Figure(f"films.{kind}_memory_to_plain", taken.memory / plain.memory, "ratio", how=how)
    yield Figure(f"films.{kind}_memory", taken.memory, "MB", FOUR_K_MB, how=f"a pod has {POD_MB} MB")
    how = "CPU of a second of the film against a second of the plain one"
    yield Figure(f"films.{kind}_cpu_to_plain", taken.cpu / plain.cpu, "ratio", how=how)


def long(folder: Path) -> Iterator[Figure]:
    """Whether memory and time of a second grow with the length."""
    frames = [min(k, FRAMES - 1) for k in range(BALL_SECONDS * FPS)]
    short = write(folder, "ball", SMALL, FPS, frames)
    balls = LONG_MINUTES * 60 // BALL_SECONDS
    one, many = used(short, folder), used(repeated(folder / "long.mp4", short, balls), folder)
    how = f"{LONG_MINUTES} minutes of 540p with {balls} strokes against {BALL_SECONDS} s with one: "
    how += f"{many.memory:.0f} MB against {one.memory:.0f}"
    yield Figure("films.long_memory_to_short", many.memory / one.memory, "ratio", 1.1, how=how)
    yield Figure("films.long_cpu_to_short", many.cpu / one.cpu, "ratio", 1.1, how="CPU of a second of the film")


def used(film: Path, folder: Path) -> Used:
    """The peak memory and the CPU time of an analysis."""
    with av.open(str(film)) as container:
        seconds = (container.duration or 0) / av.time_base
    peaks: list[int] = []
    cost = measured(lambda: peaks.append(peak_memory(film, folder).together), children_cpu)
    return Used(cost.cpu / seconds, peaks[0] / MB)


def write(
    folder: Path,
    name: str,
    size: tuple[int, int],
    rate: int,
    shown: Sequence[int],
    *,
    copies: int = 1,
    codec: tuple[str, dict[str, str]] = H264,
    times: Sequence[float] | None = None,
) -> Path:
    """The sample's frames with the numbers `shown`, and that film `copies` times. times: seconds, if not even."""
    with av.open(str(SAMPLE)) as source:
        frames = list(source.decode(video=0))
    path, clock = folder / f"{name}.mp4", Fraction(1, 60_000)
    with av.open(str(path), "w") as target:
        stream = cast(VideoStream, target.add_stream(codec[0], rate=rate, options=codec[1]))
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.time_base = clock
        for k, number in enumerate(shown):
            frame = frames[number].reformat(*size, format="yuv420p")
            frame.pts, frame.time_base = round((times[k] if times else k / rate) / clock), clock
            frame.pict_type = PictureType.NONE
            target.mux(stream.encode(frame))
        target.mux(stream.encode())
    return path if copies == 1 else repeated(folder / f"{name}_{copies}.mp4", path, copies)
