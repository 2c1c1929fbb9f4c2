"""Measures analyses of films as phones record them: HEVC in 4K and 8K, uneven times, 240 frames a second, 30 minutes.

Each film is made from the shipped sample, with the grain of a camera. A film of minutes repeats the packets of a short
one, which costs little to make: a stroke, then a wait in which nothing moves. Nothing here is a time by the clock.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from bench.analyzer import FOUR_K, FULL_HD, MB, SAMPLE, children_cpu, joined, measured, peak_memory, repeated
from bench.figures import Figure

EIGHT_K, SMALL = (7680, 4320), (960, 540)
H264 = ("libx264", "yuv420p", {"preset": "ultrafast", "bf": "2", "g": "60"})
X265 = {"preset": "ultrafast", "x265-params": "log-level=none:bframes=2:keyint=60:bitrate=60000"}
HEVC, HEVC_TEN_BIT = ("libx265", "yuv420p", X265), ("libx265", "yuv420p10le", X265)
# The limits of the analyzer's pod, in the chart's default values, and of one pass through a film.
POD_MB, POD_SECONDS, PASS_SECONDS = 2048, 14_400, 3600
FRAMES, FPS = 105, 30
# A ball is a stroke, of which these frames show all, and the wait until the next one.
STROKE, BALL_SECONDS, WAIT_SECONDS = range(24, 69), 30.0, 0.5
# So many frames of 8K, repeated.
LARGE, LARGE_COPIES = range(40, 50), 10
# Of a longer film, the memory is sampled each second.
LONG_SECONDS = 20.0
# Standard deviation of the grain, in levels.
GRAIN = 2.0


@dataclass
class Used:
    """What the analysis of one film took. memory: MB. cpu and decode: seconds in all, and of decoding alone."""

    seconds: float
    memory: float
    cpu: float
    decode: float


def run() -> Iterator[Figure]:
    """Figures of every kind of film."""
    with tempfile.TemporaryDirectory(prefix="crease-bench-") as name:
        for part in (of_seconds, of_two_minutes, of_thirty_minutes):
            yield from part(Path(name))


def of_seconds(folder: Path) -> Iterator[Figure]:
    """Films of seconds, each beside a plain one."""
    eightfold = [k // 8 for k in range(8 * FRAMES)]
    uneven = [k / FPS + (0.4 / FPS if k % 3 else 0) for k in range(FRAMES)]
    kinds: dict[str, Callable[[Path], Path]] = {
        "plain": lambda path: write(path, FULL_HD, FPS, range(FRAMES)),
        "vfr": lambda path: write(path, FULL_HD, FPS, range(FRAMES), times=uneven),
        "240fps": lambda path: write(path, FULL_HD, 240, eightfold),
        "8k_hevc": lambda path: write(path, EIGHT_K, FPS, LARGE, codec=HEVC, copies=LARGE_COPIES),
        "8k_hevc_ten_bit": lambda path: write(path, EIGHT_K, FPS, LARGE, codec=HEVC_TEN_BIT, copies=LARGE_COPIES),
    }
    plain: Used | None = None
    for kind, make in kinds.items():
        film = make(folder / f"{kind}.mp4")
        taken = used(film, folder)
        plain = plain or taken
        yield from figures(kind, taken)
        cost = (taken.cpu / taken.seconds) / (plain.cpu / plain.seconds)
        yield Figure(f"films.{kind}_cpu_to_plain", cost, "ratio", how="CPU of a second against a plain one's")


def of_two_minutes(folder: Path) -> Iterator[Figure]:
    """Four balls in 4K, HEVC, 60 frames a second and a phone's 60 Mbit/s: both stages, which a pod does in turn."""
    [film] = balls(folder, partial(write, size=FOUR_K, codec=HEVC), 60, [4])
    for stage in ("quick", "deep"):
        yield from figures(f"two_minutes_of_4k_{stage}", used(film, folder, *(["--quick"] if stage == "quick" else [])))


def of_thirty_minutes(folder: Path) -> Iterator[Figure]:
    """The longest film that is accepted, with 60 balls."""
    few, many = balls(folder, partial(write, size=SMALL), FPS, (6, 60))
    short, long = used(few, folder), used(many, folder)
    yield from figures("thirty_minutes", long)
    yield from growth("thirty_minutes", short, long)


def figures(kind: str, taken: Used) -> Iterator[Figure]:
    """Memory and CPU time of one film against the limits of a pod, which may have one core."""
    how = f"{taken.seconds:.0f} s of film"
    yield Figure(f"films.{kind}_memory", taken.memory, "MB", POD_MB, how=how)
    yield Figure(f"films.{kind}_cpu", taken.cpu, "s", POD_SECONDS, how=how)
    yield Figure(f"films.{kind}_decoding_cpu", taken.decode, "s", PASS_SECONDS, how="of all passes")


def growth(kind: str, short: Used, long: Used) -> Iterator[Figure]:
    """Whether the memory, and the CPU time of a second, grow with the length."""
    how = f"{long.seconds:.0f} s against {short.seconds:.0f} s: {long.memory:.0f} MB against {short.memory:.0f}"
    yield Figure(f"films.{kind}_memory_growth", long.memory / short.memory, "ratio", 1.1, how=how)
    ratio = (long.cpu / long.seconds) / (short.cpu / short.seconds)
    yield Figure(f"films.{kind}_cpu_growth", ratio, "ratio", 1.1, how="CPU of a second of the film")


def used(film: Path, folder: Path, *options: str) -> Used:
    """The peak memory and the CPU time of an analysis."""
    with av.open(str(film)) as container:
        seconds = (container.duration or 0) / av.time_base
    peaks: list[int] = []
    # A sample takes a hundredth of a second from the analysis.
    pause = 0.1 if seconds < LONG_SECONDS else 1.0
    cost = measured(lambda: peaks.append(peak_memory(film, folder, *options, pause=pause).together), children_cpu)
    summary = json.loads((folder / "peak" / "results.json").read_text())["pose"]["pose_summary"]
    return Used(seconds, peaks[0] / MB, cost.cpu, summary["run"]["cpu_seconds"]["decode"])


def balls(folder: Path, make: Callable[..., Path], rate: int, counts: Sequence[int]) -> list[Path]:
    """Films of so many balls at `rate`, a multiple of the sample's. make: `write` with a size and a codec."""
    stroke = make(folder / "stroke.mp4", rate=rate, shown=[k for k in STROKE for _ in range(rate // FPS)])
    wait = make(folder / "wait.mp4", rate=rate, shown=[STROKE[-1]] * round(WAIT_SECONDS * rate))
    waits = round((BALL_SECONDS - len(STROKE) / FPS) / WAIT_SECONDS)
    return [joined(folder / f"balls_{count}.mp4", count * [stroke, *waits * [wait]]) for count in counts]


def write(
    path: Path,
    size: tuple[int, int],
    rate: int,
    shown: Sequence[int],
    *,
    codec: tuple[str, str, dict[str, str]] = H264,
    times: Sequence[float] | None = None,
    copies: int = 1,
) -> Path:
    """The sample's frames with the numbers `shown`, `copies` times. times: seconds, if not even."""
    with av.open(str(SAMPLE)) as source:
        frames = list(source.decode(video=0))
    (encoder, layout, options), clock = codec, Fraction(1, 60_000)
    grain = np.random.default_rng(1).normal(0, GRAIN, (size[1], size[0])).astype(np.int16)
    with av.open(str(path), "w") as target:
        stream = cast(VideoStream, target.add_stream(encoder, rate=rate, options=options))
        stream.width, stream.height, stream.pix_fmt = *size, layout
        stream.codec_context.time_base = clock
        for k, number in enumerate(shown):
            planes = frames[number].reformat(*size, format="yuv420p").to_ndarray()
            luma = planes[: size[1]]
            luma[:] = (luma + np.roll(grain, 97 * k, axis=(0, 1))).clip(16, 235)
            frame = VideoFrame.from_ndarray(planes, format="yuv420p").reformat(format=layout)
            frame.pts, frame.time_base = round((times[k] if times else k / rate) / clock), clock
            frame.pict_type = PictureType.NONE
            target.mux(stream.encode(frame))
        target.mux(stream.encode())
    return path if copies == 1 else repeated(path.with_stem(f"{path.stem}_{copies}"), path, copies)
