"""Every codec, pixel format, orientation and rate of phones: the right frames, upright, at their true times."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from services.analyzer.arrays import Pixels
from services.analyzer.settings import Limits
from services.analyzer.video.frames import Losses, Picture, pictures
from services.analyzer.video.probe import Video, probe
from services.analyzer.video.sampling import on_grid
from testing.data.clips import HEIGHT, WIDTH, even, number_of, picture, tag_matrix, trim, write_clip

X265 = {"x265-params": "log-level=none"}
VPX = {"deadline": "realtime", "cpu-used": "8"}
KINDS = [
    ("mp4", "libx264", "yuv420p", {}),
    pytest.param("mp4", "libx264", "yuv422p", {}, marks=pytest.mark.slow),
    ("mp4", "libx264", "yuv420p10le", {}),
    pytest.param("mp4", "libx264", "yuv444p", {}, marks=pytest.mark.slow),
    ("mp4", "libx265", "yuv420p", X265),
    ("mov", "libx265", "yuv420p10le", X265),
    pytest.param("mov", "libx265", "yuv422p10le", X265, marks=pytest.mark.slow),
    ("webm", "libvpx-vp9", "yuv420p", VPX),
    pytest.param("mkv", "libvpx-vp9", "yuv422p", VPX, marks=pytest.mark.slow),
    ("mp4", "libsvtav1", "yuv420p", {"preset": "12"}),
    pytest.param("mkv", "libsvtav1", "yuv420p10le", {"preset": "12"}, marks=pytest.mark.slow),
    ("mp4", "mpeg4", "yuv420p", {}),
    ("mov", "prores_ks", "yuv422p10le", {}),
    ("mov", "mjpeg", "yuvj420p", {}),
]


def decoded(video: Video, wanted: np.ndarray) -> list[Picture]:
    losses = Losses()
    got = list(pictures(video, wanted, Limits(), losses))
    assert losses.message is None
    return got


def unlike(rgb: np.ndarray, number: int) -> float:
    """Mean difference from the drawn picture, in levels."""
    return float(np.abs(rgb[32:].astype(int) - picture(number)[32:]).mean())


@pytest.mark.parametrize(("suffix", "codec", "pixels", "options"), KINDS, ids=lambda value: str(value)[:12])
def test_every_kind_of_video_is_read_frame_by_frame(
    suffix: str, codec: str, pixels: str, options: dict[str, str], tmp_path: Path
) -> None:
    """Sampling 30 fps at 10 fps gives the nearest frames, in the drawn grey levels."""
    path = write_clip(tmp_path / f"clip.{suffix}", even(30, 30), codec=codec, pixels=pixels, options=options)
    video = probe(path, Limits())
    got = decoded(video, on_grid(video.times, 10))
    assert [number_of(p.rgb) for p in got] == list(range(0, 30, 3))
    assert [p.time_seconds for p in got] == pytest.approx(even(10, 10), abs=2e-3)
    assert max(unlike(p.rgb, number_of(p.rgb)) for p in got) < 6
    assert video.damage is None


@pytest.mark.slow
@pytest.mark.parametrize("fps", [12, 15, 23.976, 24, 25, 29.97, 30, 48, 50, 59.94, 60, 120, 240])
@pytest.mark.parametrize("asked", [10, 30])
def test_at_every_rate_the_frames_nearest_to_the_ticks_are_read(fps: float, asked: int, tmp_path: Path) -> None:
    """Checked by brute force for each tick; of two equally near frames either is right."""
    times = even(fps, int(fps * 0.8))
    video = probe(write_clip(tmp_path / "clip.mp4", times, options={"preset": "ultrafast", "bf": "2"}), Limits())
    _check_nearest(video, times, asked)


@pytest.mark.parametrize("seed", range(3))
def test_of_uneven_video_the_frames_nearest_to_the_ticks_are_read(seed: int, tmp_path: Path) -> None:
    """Steps between 4 and 150 ms."""
    times = np.cumsum(np.random.default_rng(seed).uniform(0.004, 0.15, 40)).tolist()
    video = probe(write_clip(tmp_path / "clip.mkv", times, options={"preset": "ultrafast"}), Limits())
    _check_nearest(video, [time - times[0] for time in times], 10)


def _check_nearest(video: Video, times: list[float], asked: int) -> None:
    got = decoded(video, on_grid(video.times, asked))
    numbers = [number_of(p.rgb) for p in got]
    assert numbers == sorted(set(numbers))
    for tick in np.arange(int(times[-1] * asked + 1e-6) + 1) / asked:
        nearest = min(abs(time - tick) for time in times)
        assert min(abs(times[number] - tick) for number in numbers) <= nearest + 2e-3
    for shown, number in zip(got, numbers, strict=True):
        assert shown.time_seconds == pytest.approx(times[number], abs=2e-3)


Matrix = tuple[float, float, float, float]
# The matrix (a, b, c, d), the clockwise turn after any mirroring, whether mirrored, and the same with NumPy.
TURNS = [
    ((1, 0, 0, 1), 0, False, lambda p: p),
    ((0, 1, -1, 0), 90, False, lambda p: np.rot90(p, -1)),
    ((-1, 0, 0, -1), 180, False, lambda p: np.rot90(p, 2)),
    ((0, -1, 1, 0), 270, False, lambda p: np.rot90(p, 1)),
    ((-1, 0, 0, 1), 0, True, lambda p: p[:, ::-1]),
    ((1, 0, 0, -1), 180, True, lambda p: np.rot90(p[:, ::-1], 2)),
    ((0, -1, -1, 0), 90, True, lambda p: np.rot90(p[:, ::-1], -1)),
    ((0, 1, 1, 0), 270, True, lambda p: np.rot90(p[:, ::-1], 1)),
    # The matrix of a tilted camera: the nearest upright orientation is used.
    ((0.9, 0.43, -0.43, 0.9), 0, False, lambda p: p),
]


@pytest.mark.parametrize(("matrix", "turn", "mirrored", "turn_picture"), TURNS)
def test_every_orientation_stands_upright(
    matrix: Matrix, turn: int, mirrored: bool, turn_picture: Callable[[Pixels], Pixels], tmp_path: Path
) -> None:
    """The picture is turned and mirrored by the file's matrix, and the result reports it."""
    path = write_clip(tmp_path / "clip.mp4", even(30, 8))
    stored = decoded(probe(path, Limits()), np.array([5]))[0].rgb
    video = probe(tag_matrix(path, matrix), Limits())
    upright = decoded(video, np.array([5]))[0].rgb
    assert np.array_equal(upright, turn_picture(stored))
    assert (video.rotation_degrees, video.mirrored) == (turn, mirrored)
    assert (video.width, video.height) == ((HEIGHT, WIDTH) if turn % 180 else (WIDTH, HEIGHT))


@pytest.mark.parametrize(("color_range", "pixels"), [(1, "yuv420p"), (2, "yuv420p"), (2, "yuvj420p")])
def test_full_and_limited_range_give_the_same_grey(color_range: int, pixels: str, tmp_path: Path) -> None:
    """A wrong range would shift levels by up to 16."""
    color = {"color_range": color_range}
    video = probe(write_clip(tmp_path / "clip.mp4", even(30, 4), pixels=pixels, color=color), Limits())
    assert unlike(decoded(video, np.array([2]))[0].rgb, 2) < 3


@pytest.mark.parametrize(("transfer", "name"), [(16, "pq"), (18, "hlg"), (1, None)])
def test_high_dynamic_range_is_reported(transfer: int, name: str | None, tmp_path: Path) -> None:
    """Phones record in HLG, which the result reports."""
    color = {"color_trc": transfer, "color_primaries": 9 if name else 1, "colorspace": 9 if name else 1}
    path = tmp_path / "clip.mov"
    write_clip(path, even(30, 8), codec="libx265", pixels="yuv420p10le", color=color, options=X265)
    video = probe(path, Limits())
    assert (video.hdr, video.pixel_format) == (name, "yuv420p10le")
    assert [number_of(p.rgb) for p in decoded(video, np.arange(8))] == list(range(8))


@pytest.mark.parametrize("b_frames", ["0", pytest.param("3", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("skip", "frames"), [(10, 50), (10, 30), (0, 30), (33, 21)])
def test_a_trimmed_clip_is_what_its_edit_list_shows(b_frames: str, skip: int, frames: int, tmp_path: Path) -> None:
    """Removed frames are left out, times count from the first shown frame, and no damage is reported."""
    whole = write_clip(tmp_path / "clip.mp4", even(30, 60), options={"bf": b_frames, "g": "12"})
    video = probe(trim(whole, skip, frames, 30), Limits())
    got = decoded(video, np.arange(len(video.pts)))
    assert [number_of(p.rgb) for p in got] == list(range(skip, skip + frames))
    assert [p.time_seconds for p in got] == pytest.approx(even(30, frames), abs=1e-3)
    assert video.damage is None


@pytest.mark.parametrize(("name", "start"), [("clip.mkv", 7.25), ("clip.ts", 3.0), ("clip.ts", 2**33 / 90_000 - 1.7)])
def test_time_zero_is_the_first_frame_wherever_the_file_begins(name: str, start: float, tmp_path: Path) -> None:
    """In the last case the 33-bit clock of MPEG-TS overflows in the middle (its muxer begins 1.4 s late)."""
    path = write_clip(tmp_path / name, [start + time for time in even(30, 20)], options={"bf": "2"})
    video = probe(path, Limits())
    got = decoded(video, np.array([0, 7, 19]))
    assert [number_of(p.rgb) for p in got] == [0, 7, 19]
    assert [p.time_seconds for p in got] == pytest.approx([0, 7 / 30, 19 / 30], abs=2e-3)


def test_a_gap_in_the_times_is_reported(tmp_path: Path) -> None:
    """A gap of half a second is reported as the longest gap."""
    times = [time for time in even(30, 60) if not 0.5 < time < 1.0]
    video = probe(write_clip(tmp_path / "clip.mp4", times), Limits())
    assert video.longest_gap_seconds == pytest.approx(0.5, abs=1e-3)
    assert video.times == pytest.approx(times, abs=1e-3)
