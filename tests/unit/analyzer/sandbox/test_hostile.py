"""Broken and malicious files: each is read completely, reported as damaged, or rejected with one message."""

import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from services.analyzer.errors import BadInput
from services.analyzer.sandbox.container import PROGRAM_END
from services.analyzer.sandbox.limits import SandboxLimits
from services.analyzer.sandbox.server import TASKS
from services.analyzer.settings import Limits
from services.analyzer.video.frames import Losses, borrowed_pictures
from services.analyzer.video.probe import probe
from testing.data.mutations import FPS, FRAMES, SEEDS, Seed, mutate

ROOT = Path(__file__).parents[4]
# Every file below takes a fraction of a second, so these limits detect a hang.
LIMITS = Limits(max_stall_seconds=20, max_decode_seconds=30)
# These formats declare no length, so that only a cut in the middle of a packet or box, or zeros, are detectable.
WITHOUT_DECLARED_LENGTH = ("h264.ts", "mpeg2.mpg", "fragments.mp4", "live.webm")
ENDINGS = ("truncate", "zeros")
# Damage can remove the length that these declare, but that of an MP4 is also in its index.
DECLARED_ONCE = (".mkv", ".webm")
# Of each thousand broken files. Starting the sandbox takes most of the time of a file.
IN_THE_SANDBOX = 300


@pytest.fixture(scope="module")
def wholes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The undamaged videos by name. A fresh process writes them: a codec's bytes may depend on what ran before."""
    folder = tmp_path_factory.mktemp("seeds")
    subprocess.run([sys.executable, "-m", "testing.data.mutations", folder], cwd=ROOT, check=True, capture_output=True)
    return {seed.name: (folder / seed.name).read_bytes() for seed in SEEDS}


def read(path: Path) -> tuple[int, float, bool]:
    """The number of decoded pictures, the video's seconds, and whether it is reported damaged. Raises BadInput."""
    video, losses = probe(path, LIMITS), Losses()
    decoded = sum(1 for _ in borrowed_pictures(video, np.arange(len(video.pts)), LIMITS, losses))
    assert decoded == len(video.pts) or losses.message, "pictures are missing and no loss is reported"
    return decoded, video.duration_seconds, bool(video.damage or losses.message)


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed.name)
def test_a_whole_file_of_every_kind_is_read_to_its_end(wholes: dict[str, bytes], seed: Seed, tmp_path: Path) -> None:
    """All pictures decode, the duration is right, and no damage is reported."""
    (tmp_path / seed.name).write_bytes(wholes[seed.name])
    decoded, seconds, damaged = read(tmp_path / seed.name)
    assert (decoded, damaged) == (FRAMES, False)
    assert seconds == pytest.approx(FRAMES / FPS, abs=1 / FPS)


def test_an_mpeg_file_that_ends_in_zeros_is_damaged_unless_its_end_code_comes_first(
    wholes: dict[str, bytes], tmp_path: Path
) -> None:
    """Zeros in place of the last pictures are a failed copy; zeros after the end code pad the file."""
    film, path = wholes["mpeg2.mpg"], tmp_path / "mpeg2.mpg"
    path.write_bytes(film + PROGRAM_END + bytes(2048))
    decoded, _, damaged = read(path)
    assert (decoded, damaged) == (FRAMES, False)
    path.write_bytes(film[:-1000] + bytes(1000))
    assert read(path)[2]


def check(number: int, wholes: dict[str, bytes], folder: Path) -> str:
    """Damage one file and read it; returns the outcome. Asserts that it neither crashes, hangs nor passes as whole."""
    seed = SEEDS[number % len(SEEDS)]
    way, content = mutate(wholes[seed.name], number)
    path = folder / seed.name
    path.write_bytes(content)
    began = time.process_time()
    try:
        decoded, seconds, damaged = read(path)
    except BadInput as fault:
        if fault.code in ("CRASHED", "TOO_SLOW"):
            pytest.fail(f"{number}: {seed.name} after {way}: {fault.message}")
        return fault.code
    assert time.process_time() - began < LIMITS.max_decode_seconds, f"{number}: {seed.name} after {way} takes long"
    if not damaged and (seed.name not in WITHOUT_DECLARED_LENGTH or way in ENDINGS):
        short = decoded < FRAMES and seconds < (FRAMES - 1.5) / FPS
        if short and path.suffix in DECLARED_ONCE and way not in ENDINGS:
            short = probe(path, LIMITS).declared_seconds is not None
        assert not short, f"{number}: {seed.name} after {way}: {decoded} pictures in {seconds:.2f} s pass for the whole"
    return "damaged" if damaged else "whole"


def test_a_broken_file_is_refused_or_called_damaged(wholes: dict[str, bytes], tmp_path: Path) -> None:
    """24 broken files of 21 formats; `make slow` reads 20,000."""
    for number in range(24):
        check(number, wholes, tmp_path)


def run_here(
    task: str, arguments: dict[str, Any], limits: SandboxLimits, picture_bytes: int = 0
) -> Generator[tuple[dict[str, Any], Any], None, dict[str, Any]]:
    """`run_in_sandbox` in this process, whose CPU time has no limit."""
    try:
        return (yield from TASKS[task](arguments, replace(limits, max_decode_seconds=math.inf), lambda: None))
    except MemoryError as error:
        raise BadInput("TOO_MUCH_MEMORY", "the video needs too much memory") from error


@contextmanager
def bounded_memory() -> Iterator[None]:
    """As much memory as the sandbox has, beyond what this process has now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_DATA, (used + LIMITS.for_sandbox.max_decode_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


@pytest.mark.slow
@pytest.mark.parametrize("thousand", range(20))
def test_twenty_thousand_broken_files_are_refused_or_called_damaged(
    thousand: int, wholes: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file crashes, hangs or passes as whole when it is short of the length that it declares; every outcome occurs.

    The sandbox reads some; this process reads the rest with the same code, in a tenth of the time.
    """
    numbers = range(1000 * thousand, 1000 * (thousand + 1))
    endings = {check(number, wholes, tmp_path) for number in numbers[:IN_THE_SANDBOX]}
    for module in ("frames", "probe"):
        monkeypatch.setattr(f"services.analyzer.video.{module}.run_in_sandbox", run_here)
    with bounded_memory():
        endings |= {check(number, wholes, tmp_path) for number in numbers[IN_THE_SANDBOX:]}
    assert endings >= {"whole", "damaged", "NOT_A_VIDEO", "NOT_DECODABLE", "NO_VIDEO_STREAM"}


@pytest.mark.parametrize("kind", ["folder", "pipe", "missing", "device"])
def test_a_path_that_is_no_regular_file_is_refused_at_once(kind: str, tmp_path: Path) -> None:
    """Opening a pipe would wait forever."""
    path = tmp_path / "clip.mp4"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    with pytest.raises(BadInput, match=r"clip\.mp4 (is not a regular file|does not exist)"):
        probe(path, LIMITS)


@pytest.mark.parametrize("name", ["plain.mp4", "h264.mkv", "mjpeg.avi"])
def test_a_wrong_extension_does_not_matter(wholes: dict[str, bytes], name: str, tmp_path: Path) -> None:
    """The content decides the format."""
    path = tmp_path / "holiday.jpg"
    path.write_bytes(wholes[name])
    decoded, seconds, damaged = read(path)
    assert (decoded, damaged) == (FRAMES, False)
    assert seconds == pytest.approx(FRAMES / FPS, abs=1 / FPS)


@pytest.mark.slow
def test_a_small_file_with_a_huge_picture_is_refused(tmp_path: Path) -> None:
    """A picture of 8192 x 8192 fits into less than a megabyte."""
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
