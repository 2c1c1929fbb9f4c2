"""The sandbox turns every failure of the process that opens an untrusted file into a fault with a message."""

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from itertools import pairwise
from pathlib import Path

import numpy as np
import psutil
import pytest

from services.analyzer.errors import BadInput, Fault
from services.analyzer.settings import Limits
from services.analyzer.video.frames import Losses, Picture, borrowed_pictures, pictures
from services.analyzer.video.probe import Video, probe
from testing.data.clips import even, number_of, write_clip
from testing.data.videos import ROOT


@pytest.fixture
def video(tmp_path: Path) -> Video:
    """A video with more frames than the decoder may hold ahead."""
    return probe(write_clip(tmp_path / "clip.mp4", even(30, 60)), Limits())


def reading(video: Video, limits: Limits | None = None) -> Generator[Picture, None, None]:
    return pictures(video, np.arange(60), limits or Limits(), Losses())


def servers() -> list[psutil.Process]:
    """Sandbox servers among this process's children, which other tests may start too; without ended processes."""
    return [child for child in psutil.Process().children() if _is_server(child)]


def _is_server(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.ZombieProcess):
        return "services.analyzer.sandbox.server" in process.cmdline()
    return False


def workers() -> list[psutil.Process]:
    """The decoding processes of this process: the children of its server's guards."""
    return [
        worker
        for server in psutil.Process().children()
        for guard in server.children()
        for worker in guard.children()
        if worker.status() != psutil.STATUS_ZOMBIE
    ]


@pytest.mark.parametrize("how", [signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL])
def test_a_decoder_that_crashes_is_bad_input_and_the_next_file_is_read(video: Video, how: signal.Signals) -> None:
    """Exit status 65 and a message that names the signal; the analyzer can read the next file."""
    source = reading(video)
    next(source)
    (worker,) = workers()
    worker.send_signal(how)
    with pytest.raises(BadInput, match=how.name) as caught:
        list(source)
    assert (caught.value.code, caught.value.exit_status) == ("CRASHED", 65)
    assert len(list(reading(video))) == 60


def test_a_decoder_that_hangs_is_ended(video: Video) -> None:
    """A decoder that sends no message until the time limit gives exit status 65 and is killed."""
    source = reading(video, Limits(max_stall_seconds=0.1))
    next(source)
    (worker,) = workers()
    worker.suspend()
    with pytest.raises(BadInput) as caught:
        list(source)
    assert caught.value.code == "TOO_SLOW"
    assert _has_ended(worker)


def test_a_decoder_that_is_given_no_time_is_waited_for(video: Video) -> None:
    """A suspended decoder uses no CPU time, so it may be silent for longer than its CPU limit."""
    source = reading(video, Limits(max_stall_seconds=0.5))
    next(source)
    (worker,) = workers()
    worker.suspend()
    threading.Timer(0.7, worker.resume).start()
    assert len(list(source)) == 59


def test_a_decoder_that_works_without_a_sign_of_life_is_ended_by_its_cpu_time(video: Video) -> None:
    """The kernel's CPU limit is just above the time used; SIGXCPU is reported as TOO_SLOW, not as a crash."""
    source = reading(video, Limits(max_stall_seconds=7))
    next(source)
    (worker,) = workers()
    soft, _ = worker.rlimit(psutil.RLIMIT_CPU)
    assert 7 <= soft <= sum(worker.cpu_times()[:2]) + 8
    worker.send_signal(signal.SIGXCPU)
    with pytest.raises(BadInput, match="7 s without a picture") as caught:
        list(source)
    assert caught.value.code == "TOO_SLOW"


@pytest.mark.slow
def test_a_decoder_that_starts_slowly_is_not_the_video_s_fault(video: Video) -> None:
    """A server that is suspended for longer than a decoder may stall does not fail the video."""
    (server,) = servers()
    server.suspend()
    later = threading.Timer(12, server.resume)
    later.start()
    try:
        assert len(list(reading(video, Limits(max_stall_seconds=1)))) == 60
    finally:
        later.join()


def test_a_decoder_that_was_killed_is_not_the_video_s_fault(video: Video) -> None:
    """SIGKILL, as from a node without memory, is a failure to retry, not exit status 65."""
    source = reading(video)
    next(source)
    (worker,) = workers()
    worker.kill()
    with pytest.raises(Fault, match="memory") as caught:
        list(source)
    assert caught.value.exit_status == 70


def test_memory_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    """Pictures of 2 megapixels need more than 4 MB."""
    path = write_clip(tmp_path / "large.mp4", even(30, 12), size=(1920, 1080), options={"preset": "ultrafast"})
    with pytest.raises(BadInput) as caught:
        list(pictures(probe(path, Limits()), np.arange(12), Limits(max_decode_bytes=4 << 20), Losses()))
    assert caught.value.code == "TOO_MUCH_MEMORY"


def test_closing_the_generator_ends_the_decoder(video: Video) -> None:
    """Closing the generator early leaves no process behind."""
    source = reading(video)
    next(source)
    (worker,) = workers()
    source.close()
    assert _has_ended(worker)


def test_a_server_that_was_killed_is_started_anew(video: Video) -> None:
    """The next file is read by a new server."""
    killed = servers()
    for server in killed:
        server.kill()
        server.wait()
    assert killed
    assert len(list(reading(video))) == 60


def test_two_videos_can_be_read_at_once(video: Video, tmp_path: Path) -> None:
    """Each video has a worker of its own."""
    other = probe(write_clip(tmp_path / "other.mp4", even(30, 40)), Limits())
    both = zip(reading(video), pictures(other, np.arange(40), Limits(), Losses()), strict=False)
    assert [(number_of(a.rgb), number_of(b.rgb)) for a, b in both] == [(k, k) for k in range(40)]


def test_the_decoder_is_never_further_ahead_than_its_slots(video: Video) -> None:
    """A borrowed picture stays valid until the next but one is taken, however long that takes."""
    for before, shown in pairwise(borrowed_pictures(video, np.arange(60), Limits(), Losses())):
        if shown.index < 3:
            time.sleep(0.1)
        assert (number_of(before.rgb), number_of(shown.rgb)) == (before.index, shown.index)


@pytest.mark.parametrize("begin", ["", "from services.analyzer.sandbox import client; client.fork_server()\n"])
def test_an_analyzer_that_is_killed_leaves_no_process_behind(video: Video, begin: str) -> None:
    """Server, guard and worker end with their analyzer, whether the server is its fork or not."""
    program = (
        f"{begin}"
        "import sys, numpy as np; from pathlib import Path\n"
        "from services.analyzer.video.frames import *; from services.analyzer.video.probe import probe\n"
        "video = probe(Path(sys.argv[1]), Limits()); source = pictures(video, np.arange(60), Limits(), Losses())\n"
        "next(source); print('ready', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(video.path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as analyzer:
        assert analyzer.stdout
        analyzer.stdout.readline()
        helpers = [one for one in psutil.Process(analyzer.pid).children(recursive=True) if one.status() != "zombie"]
        assert len(helpers) == 3
        analyzer.kill()
    assert all(_has_ended(helper) for helper in helpers)


def test_the_sandbox_imports_nothing_that_it_does_not_need() -> None:
    """The decoding process imports neither the model, nor gRPC, nor settings with their tokens, forked or not."""
    program = "import sys, services.analyzer.__main__, services.analyzer.sandbox.server; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(ran.stdout.split())
    assert "av" in loaded
    assert not loaded & {"mediapipe", "grpc", "pydantic", "urllib3", "scipy", "services.analyzer.settings"}


def _has_ended(process: psutil.Process) -> bool:
    """Whether the process ends; given up after 60 s."""
    for _ in range(1200):
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False
