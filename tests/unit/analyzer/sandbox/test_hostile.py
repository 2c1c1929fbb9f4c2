"""Files that are broken or made to harm: each ends as a whole reading, a reading called damaged, or one sentence."""

import os
import time
from pathlib import Path

import av
import numpy as np
import pytest

from services.analyzer.errors import BadInput
from services.analyzer.settings import Limits
from services.analyzer.video.frames import Losses, lent_pictures
from services.analyzer.video.probe import probe
from testing.data.mutations import FPS, FRAMES, SEEDS, mutate, write

# Every file below is read in a fraction of a second; a hang would be found at the first of these.
LIMITS = Limits(max_stall_seconds=20, max_decode_seconds=30)
# They say nowhere how long they are, so that only a cut in the middle of a packet or box can be told.
BOUNDLESS = ("h264.ts", "fragments.mp4")


@pytest.fixture(scope="module")
def wholes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("seeds")
    return {seed.name: write(seed, folder) for seed in SEEDS}


def read(path: Path) -> tuple[int, float, bool]:
    """Pictures that came, the seconds they span, and whether anything is said to be missing. Raises BadInput."""
    video, losses = probe(path, LIMITS), Losses()
    came = sum(1 for _ in lent_pictures(video, np.arange(len(video.pts)), LIMITS, losses))
    assert came == len(video.pts) or losses.sentence, "pictures are missing and nothing says so"
    return came, video.duration_seconds, bool(video.damage or losses.sentence)


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed.name)
def test_a_whole_file_of_every_kind_is_read_to_its_end(wholes: dict[str, bytes], seed: object, tmp_path: Path) -> None:
    """All its pictures, in its own time, and nothing called damaged."""
    name = seed.name  # type: ignore[attr-defined]
    (tmp_path / name).write_bytes(wholes[name])
    came, seconds, damaged = read(tmp_path / name)
    assert (came, damaged) == (FRAMES, False)
    assert seconds == pytest.approx(FRAMES / FPS, abs=1 / FPS)


def check(number: int, wholes: dict[str, bytes], folder: Path) -> str:
    """Break one file and read it; returns how that ended. What a broken file may not do is asserted."""
    seed = SEEDS[number % len(SEEDS)]
    way, content = mutate(wholes[seed.name], number)
    path = folder / seed.name
    path.write_bytes(content)
    began = time.monotonic()
    try:
        came, seconds, damaged = read(path)
    except BadInput as fault:
        if fault.code in ("CRASHED", "TOO_SLOW"):
            pytest.fail(f"{number}: {seed.name} after {way}: {fault.sentence}")
        return fault.code
    assert time.monotonic() - began < LIMITS.max_decode_seconds
    if not damaged and (seed.name not in BOUNDLESS or way == "truncate"):
        short = came < FRAMES and seconds < (FRAMES - 1.5) / FPS
        assert not short, f"{number}: {seed.name} after {way}: {came} pictures in {seconds:.2f} s pass for the whole"
    return "damaged" if damaged else "whole"


def test_a_broken_file_is_refused_or_called_damaged(wholes: dict[str, bytes], tmp_path: Path) -> None:
    """Two dozen broken files of twenty kinds; `make slow` reads a thousand."""
    for number in range(24):
        check(number, wholes, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_thousand_broken_files_are_refused_or_called_damaged(wholes: dict[str, bytes], tmp_path: Path) -> None:
    """No crash, no hang, no short result that passes for the whole; every ending that there is comes up."""
    endings = {check(number, wholes, tmp_path) for number in range(1000)}
    assert endings >= {"whole", "damaged", "NOT_A_VIDEO", "NOT_DECODABLE", "NO_VIDEO_STREAM"}


@pytest.mark.parametrize("kind", ["folder", "pipe", "missing", "device"])
def test_what_is_no_file_is_refused_at_once(kind: str, tmp_path: Path) -> None:
    """A pipe would be waited on for ever."""
    path = tmp_path / "clip.mp4"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    with pytest.raises(BadInput, match=r"clip\.mp4 is (no file|not there)"):
        probe(path, LIMITS)


@pytest.mark.parametrize("name", ["plain.mp4", "h264.mkv", "mjpeg.avi"])
def test_a_wrong_extension_does_not_matter(wholes: dict[str, bytes], name: str, tmp_path: Path) -> None:
    """What is in the file decides."""
    path = tmp_path / "holiday.jpg"
    path.write_bytes(wholes[name])
    assert read(path) == (FRAMES, pytest.approx(FRAMES / FPS, abs=1 / FPS), False)


@pytest.mark.slow
def test_a_small_file_with_a_huge_picture_is_refused(tmp_path: Path) -> None:
    """8192 x 8192 in under a megabyte."""
    path = tmp_path / "bomb.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "ultrafast", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = 8192, 8192, "yuv420p"
        frame = av.VideoFrame(8192, 8192, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert path.stat().st_size < 1 << 20
    with pytest.raises(BadInput, match="8192x8192") as caught:
        probe(path, LIMITS)
    assert caught.value.code == "TOO_MANY_PIXELS"
