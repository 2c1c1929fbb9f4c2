"""Frames are read exactly, with their true times."""

from pathlib import Path

import av
import numpy as np
import pytest

from services.analyzer.errors import BadInput
from services.analyzer.settings import Limits
from services.analyzer.video.frames import Losses, Picture, pictures
from services.analyzer.video.probe import Video, probe
from services.analyzer.video.sampling import on_grid
from testing.data.clips import HEIGHT, WIDTH, even, number_of, picture, tag_rotation, write_clip
from tests.unit.analyzer.video.test_probe import faststart


def decoded(video: Video, wanted: list[int] | np.ndarray, long_side: int = 1920) -> list[Picture]:
    losses = Losses()
    got = list(pictures(video, np.asarray(wanted, dtype=np.intp), Limits(), losses, long_side))
    assert losses.message is None
    return got


@pytest.fixture
def video(tmp_path: Path) -> Video:
    """Three seconds at 30 fps with B-frames and several key frames."""
    options = {"g": "24", "bf": "3"}
    return probe(write_clip(tmp_path / "clip.mp4", even(30, 90), options=options), Limits())


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_each_chosen_frame_is_the_one_with_that_time(tmp_path: Path, codec: str) -> None:
    """The number in a picture is its index in the video, and its time is true."""
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    video = probe(write_clip(tmp_path / "clip.mp4", even(30, 60), codec=codec, options=options), Limits())
    got = decoded(video, [0, 3, 7, 31, 59])
    assert [number_of(p.rgb) for p in got] == [0, 3, 7, 31, 59]
    assert [p.time_seconds for p in got] == pytest.approx([0, 0.1, 7 / 30, 31 / 30, 59 / 30], abs=1e-4)


def test_skipping_unasked_frames_changes_no_byte_of_the_asked_ones(video: Video) -> None:
    """Sampled frames equal, byte for byte, those of a decoder that decodes everything, from any start."""
    with av.open(str(video.path)) as container:
        all_of_them = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    for wanted in (on_grid(video.times, 10), on_grid(video.times, 7, 1.0, 2.0), np.array([41, 42, 43, 44])):
        for got in decoded(video, wanted):
            assert np.array_equal(got.rgb, all_of_them[got.index])


def test_variable_frame_times_are_kept(tmp_path: Path) -> None:
    """Uneven time stamps are preserved."""
    times = [0.0, 0.033, 0.2, 0.21, 0.5, 1.0, 1.033]
    video = probe(write_clip(tmp_path / "vfr.mp4", times), Limits())
    got = decoded(video, list(range(7)))
    assert [number_of(p.rgb) for p in got] == list(range(7))
    assert [p.time_seconds for p in got] == pytest.approx(times, abs=1e-3)


def test_a_rotation_tag_is_applied_clockwise(tmp_path: Path) -> None:
    """The bits along the top edge end up along the right edge, read from above."""
    video = probe(tag_rotation(write_clip(tmp_path / "phone.mp4", even(30, 8))), Limits())
    upright = decoded(video, [5])[0].rgb
    assert upright.shape == (WIDTH, HEIGHT, 3)
    assert number_of(np.rot90(upright)) == 5


@pytest.mark.parametrize("width", [160, 162, 178, 202, 218, 234])
def test_rows_are_never_padded(tmp_path: Path, width: int) -> None:
    """At every width the array is contiguous and shows the drawn picture: MediaPipe ignores strides."""
    video = probe(write_clip(tmp_path / "clip.mp4", even(30, 2), size=(width, 64)), Limits())
    rgb = decoded(video, [1])[0].rgb
    assert rgb.flags.c_contiguous
    assert rgb.shape == (64, width, 3)
    assert np.abs(rgb[32:, :, 0].astype(int) - picture(1, width, 64)[32:, :, 0]).mean() < 6


def test_large_pictures_are_made_smaller_and_small_ones_left(video: Video) -> None:
    """The longer side is at most `long_side`; a picture is never enlarged."""
    assert decoded(video, [1], long_side=80)[0].rgb.shape == (32, 80, 3)
    assert decoded(video, [1], long_side=4000)[0].rgb.shape == (HEIGHT, WIDTH, 3)


def test_frames_that_never_come_are_counted(tmp_path: Path) -> None:
    """If the index lists more frames than decode, the missing ones are counted."""
    path = faststart(write_clip(tmp_path / "whole.mp4", even(30, 90)))
    content = bytearray(path.read_bytes())
    half = content.index(b"mdat") + (len(content) - content.index(b"mdat")) // 2
    content[half:] = bytes(len(content) - half)
    path.write_bytes(bytes(content))
    losses = Losses()
    video = probe(path, Limits())
    got = list(pictures(video, np.arange(len(video.pts)), Limits(), losses))
    assert len(got) + losses.missing == 90
    assert losses.message


def test_decoding_that_takes_too_long_is_stopped(video: Video) -> None:
    """Exceeding the CPU limit of decoding is a fault with a code."""
    with pytest.raises(BadInput, match="within") as caught:
        list(pictures(video, np.arange(90), Limits(max_decode_seconds=1e-9), Losses()))
    assert caught.value.code == "TOO_SLOW"
