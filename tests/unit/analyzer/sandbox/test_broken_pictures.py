"""A picture that cannot be converted is lost, an index that cannot be true is damage; neither ends an analysis."""

import errno
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import av
import cv2
import numpy as np
import pytest
from av.video.frame import VideoFrame

from services.analyzer.sandbox import decoder
from services.analyzer.sandbox.fields import Deinterlacer
from services.analyzer.sandbox.limits import SandboxLimits
from services.analyzer.sandbox.timeline import Timeline
from services.analyzer.settings import Limits
from services.analyzer.video.frames import Losses, pictures
from services.analyzer.video.probe import Video, probe
from services.containers import mp4
from services.containers.mp4 import Edit
from testing.data.clips import HEIGHT, WIDTH, even, set_edits, write_clip
from testing.data.mutations import FRAMES as MUTATED_FRAMES
from testing.data.mutations import Seed, write

FRAMES = 6


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Video:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return probe(write_clip(path, even(30, FRAMES), options={"bf": "0"}), Limits())


def decode_all(video: Video) -> tuple[int, dict[str, Any]]:
    """How many pictures the decoder gives in this process, and what it lost."""
    arguments = {
        "path": str(video.path), "pts": video.pts.tolist(), "seek": False, "size": (WIDTH, HEIGHT),
        "orientation": video.orientation, "interlaced": False, "hdr": None, "layout": "rgb24", "fast": False,
    }  # fmt: skip
    # The limit counts the CPU time of the whole process.
    limits: SandboxLimits = replace(Limits().for_sandbox, max_decode_seconds=1e9)
    decoding, count = decoder.decode(arguments, limits, lambda: None), 0
    while True:
        try:
            next(decoding)
        except StopIteration as end:
            return count, end.value
        count += 1


def no_memory() -> cv2.error:
    error = cv2.error("Insufficient memory")
    error.code = cv2.Error.StsNoMem
    return error


def fail_with(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def convert(*_: object) -> NoReturn:
        raise error

    monkeypatch.setitem(decoder.LAYOUTS, "rgb24", convert)


@pytest.mark.parametrize(
    "error",
    [
        cv2.error("(-215:Assertion failed)"),
        ValueError("no such format"),
        OverflowError("too large"),
        ZeroDivisionError("no size"),
        av.InvalidDataError(errno.EINVAL, "broken"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_picture_that_cannot_be_converted_is_lost(
    error: Exception, video: Video, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever library refuses it."""
    fail_with(error, monkeypatch)
    count, losses = decode_all(video)
    assert (count, losses["missing"]) == (0, FRAMES)
    assert losses["first_error"] == ("broken" if isinstance(error, av.FFmpegError) else "a picture cannot be converted")


@pytest.mark.parametrize("error", [no_memory(), av.error.MemoryError(errno.ENOMEM, "full")], ids=["OpenCV", "FFmpeg"])
def test_a_lack_of_memory_is_no_loss(error: Exception, video: Video, monkeypatch: pytest.MonkeyPatch) -> None:
    """The analysis is refused, because every further picture would be lost too."""
    fail_with(error, monkeypatch)
    with pytest.raises(MemoryError):
        decode_all(video)


@pytest.mark.parametrize("outer", [(1, 1), (1, 1920), (2, 1080), (3, 5), (1920, 1), (1920, 3)])
def test_a_picture_of_any_shape_has_a_size_in_any_other(outer: tuple[int, int]) -> None:
    """At least a pixel, and never more than there is room for."""
    for width in (1, 2, 3, 160, 8192):
        for height in (1, 2, 3, 64, 8192):
            inner = decoder.fit_inside((width, height), outer)
            assert all(1 <= side <= room for side, room in zip(inner, outer, strict=True)), (width, height)


def test_a_frame_that_cannot_be_deinterlaced_is_lost(video: Video) -> None:
    """A frame of 2 x 2 is too small for the filter; the frames before and after it are not."""
    sizes = [(WIDTH, HEIGHT), (WIDTH, HEIGHT), (2, 2), (WIDTH, HEIGHT)]
    frames, errors = [], list[Exception]()
    for number, size in enumerate(sizes):
        frame = VideoFrame.from_ndarray(np.zeros((size[1], size[0], 3), np.uint8), format="rgb24")
        frame = frame.reformat(format="yuv420p")
        frame.pts = number
        frames.append(frame)
    with av.open(str(video.path)) as container:
        stream = container.streams.video[0]
        got = list(Deinterlacer(stream, errors.append).pictures(iter(frames)))
    assert [(one.width, one.height) for one in got] == 6 * [(WIDTH, HEIGHT)]
    assert len(errors) == 1


@pytest.mark.parametrize("seconds", [0.001, 0.01])
def test_an_edit_list_that_shows_less_than_a_frame_is_damage(seconds: float, tmp_path: Path) -> None:
    """Its length agrees with all others of the file, as where the movie's clock is damaged."""
    path = set_edits(write_clip(tmp_path / "clip.mp4", even(30, 30), options={"bf": "0"}), [(seconds, 0, 1)])
    assert "less than a frame" in (probe(path, Limits()).damage or "")


def test_a_film_cut_to_one_frame_is_whole(tmp_path: Path) -> None:
    path = set_edits(write_clip(tmp_path / "clip.mp4", even(30, 30), options={"bf": "0"}), [(1 / 30, 0, 1)])
    one = probe(path, Limits())
    assert (len(one.pts), one.damage) == (1, None)


@pytest.mark.parametrize("stamp", [(1 << 60) + 7, (1 << 62) + 7])
def test_a_stamp_that_is_too_large_to_calculate_with_is_damage(stamp: int, tmp_path: Path) -> None:
    """The frames before it are read."""
    write(Seed("clip.mp4", muxer="movflags=frag_keyframe+empty_moov", encoder="g=8"), tmp_path)
    path = tmp_path / "clip.mp4"
    content = bytearray(path.read_bytes())
    struct.pack_into(">Q", content, content.rindex(b"tfdt") + 8, stamp)
    path.write_bytes(content)
    film, losses = probe(path, Limits()), Losses()
    got = list(pictures(film, np.arange(len(film.pts)), Limits(), losses))
    assert 8 <= len(got) < MUTATED_FRAMES
    assert film.damage


def test_boxes_in_boxes_without_end_are_read(tmp_path: Path) -> None:
    """Deeper than Python's stack."""
    content = b""
    for _ in range(5000):
        content = struct.pack(">I4s", 8 + len(content), b"mdia") + content
    for kind in (b"trak", b"moov"):
        content = struct.pack(">I4s", 8 + len(content), kind) + content
    (tmp_path / "clip.mp4").write_bytes(content)
    with pytest.raises(struct.error):  # a track without a header
        mp4.read(tmp_path / "clip.mp4")


@pytest.mark.parametrize("edit", [Edit(1e19, 1.0, 0.0, 0.5), Edit(0.0, 1e19, 0.0, 0.0)])
def test_an_edit_beyond_any_clock_is_an_error_of_the_file(edit: Edit, video: Video) -> None:
    """Not of our own code: a stamp has 64 bits."""
    with av.open(str(video.path)) as container:
        timeline = Timeline(container, container.streams.video[0], (edit,))
        with pytest.raises(av.error.InvalidDataError, match="too large"):
            list(timeline.packets())
