"""Compares the analyzer with a lower bound: the bare model on pictures in memory, and bare decoding.

    bound = max(bare pose wall, (bare pose CPU + bare decode CPU) / cores), over the frames of both passes

The bound omits two costs: the flipped estimate of each close-up, and cores that slow each other down by sharing memory.
So the bench also runs the bare work itself, pass by pass, with decoding and both estimates at the same time: no
analyzer can be faster.

One run measures everything on one 1080p video made from the shipped sample. The pose passes are compared with both; the
whole analysis, with the overlay video of every frame, is printed too.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, cast

import av
import numpy as np
import psutil
from av.video.frame import PictureType
from av.video.stream import VideoStream

from bench.figures import Figure, cpu_seconds
from crease.jobs.v1.job_pb2 import Stage
from services.analyzer.arrays import Indices
from testing.fakes.analyzer_peers import TOKEN, Services, serving
from testing.servers.programs import foreign_to

if TYPE_CHECKING:
    from services.analyzer.pose.estimator import LandmarkerFactory
    from services.analyzer.video.frames import RGB

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "samples" / "batter.mp4"
COPIES, FULL_HD, FOUR_K = 3, (1920, 1080), (3840, 2160)
GOAL, ROUNDS = 1.10, 3
# The long video is the other one, this many times: two minutes.
LONG_COPIES = 12
MB = 1 << 20
STARTS = 7
# The program itself, which exits after the first person is found, without the interpreter's clean-up.
TO_FIRST_POSE = """
import atexit, json, os, sys
atexit.register(os._exit, 0)
sys.modules |= dict.fromkeys(json.loads(sys.argv.pop(1)))
from services.analyzer.sandbox import client
client.fork_server()
from services.analyzer.__main__ import main
from services.analyzer.pose.estimator import Landmarker

def first(landmarker, rgb, seconds, estimate=Landmarker.estimate):
    print(len(estimate(landmarker, rgb, seconds)), flush=True)
    sys.exit()

Landmarker.estimate = first
main()
"""
ON = "10 fps sampled from 30, and every frame of the actions"


@dataclass
class Cost:
    """Seconds of wall and CPU time, of this process and of the processes that it started and waited for."""

    wall: float
    cpu: float


@dataclass
class Round:
    """Costs measured in turn: the passes; bare pose and bare decoding of their frames; both bare tasks at once."""

    ours: Cost
    pose: Cost
    decode: Cost
    at_once: Cost

    def bound(self, cores: int) -> float:
        """The lower bound in seconds."""
        return max(self.pose.wall, (self.pose.cpu + self.decode.cpu) / cores)


def run() -> Iterator[Figure]:
    """All figures of the analyzer."""
    with tempfile.TemporaryDirectory(prefix="crease-bench-") as name:
        folder = Path(name)
        film = enlarged(folder / "1080p.mp4", FULL_HD, COPIES)
        yield from against_the_bound(film)
        yield from whole(film, folder)
        yield start_to_first_pose(folder)
        yield from memory(film, folder)


def against_the_bound(film: Path) -> Iterator[Figure]:
    """Figures of the two pose passes, including the sandbox and the selection of the athlete."""
    from services.analyzer.biomechanics.events import close_up_windows
    from services.analyzer.pose.estimator import LandmarkerFactory
    from services.analyzer.pose.passes import PosePasses
    from services.analyzer.settings import Accelerator, Settings
    from services.analyzer.video.probe import probe
    from services.analyzer.video.sampling import every, on_grid

    settings = Settings(accelerator=Accelerator.cpu)
    landmarkers = LandmarkerFactory(settings.mediapipe_pose_model_path, settings.accelerator)
    video = probe(film, settings)
    wanted = on_grid(video.times, 10)
    windows: list[tuple[float, float]] = []

    def passes() -> None:
        pose_passes = PosePasses(video, landmarkers, settings, None)
        seen = pose_passes.run_whole_clip(wanted, lambda _: None)
        windows[:] = close_up_windows(seen.whole, "batting", seen.camera_motion.cuts)
        pose_passes.run_close_ups(seen, windows, lambda _: None)

    passes()  # warms up what is loaded once
    runs = [wanted, *(every(video.times, start, end) for start, end in windows)]
    shown = [bare_pictures(film, chosen) for chosen in runs]

    def at_once(k: int) -> None:
        with ThreadPoolExecutor(3) as pool:
            ways = 2 if k else 1
            decode: Callable[[], object] = partial(bare_decode, film, runs[k])
            pose: Callable[[], object] = partial(bare_pose, landmarkers, shown[k])
            works = [decode, *ways * [pose]]
            for future in [pool.submit(work) for work in works]:
                future.result()

    def take() -> Round:
        return Round(
            measured(passes),
            _sum(measured(partial(bare_pose, landmarkers, pictures)) for pictures in shown),
            _sum(measured(partial(bare_decode, film, chosen)) for chosen in runs),
            _sum(measured(partial(at_once, k)) for k in range(len(runs))),
        )

    rounds, frames, cores = [take() for _ in range(ROUNDS)], sum(map(len, runs)), len(os.sched_getaffinity(0))

    def figure(
        name: str, of: Callable[[Round], float], unit: str = "ratio", goal: float | None = None, how: str = ""
    ) -> Figure:
        return Figure(f"analyzer.{name}", median(map(of, rounds)), unit, goal, how=how)

    how = f"{frames} frames of 1080p, {ON}; {cores} cores; median of {ROUNDS} rounds, as all of these"
    yield figure("passes_wall_to_bound", lambda one: one.ours.wall / one.bound(cores), goal=GOAL, how=how)
    how = f"of the bare work itself, done at once, {frames - len(wanted)} frames also estimated flipped"
    yield figure("bare_wall_to_bound", lambda one: one.at_once.wall / one.bound(cores), how=how)
    how = "the passes against that"
    yield figure("passes_wall_to_bare", lambda one: one.ours.wall / one.at_once.wall, goal=GOAL, how=how)
    yield figure("passes_cpu_to_bare", lambda one: one.ours.cpu / one.at_once.cpu, how=how)
    yield figure("bare_pose_cpu", lambda one: 1000 * one.pose.cpu / frames, "ms/frame")
    how = "frames in between included"
    yield figure("bare_decode_cpu", lambda one: 1000 * one.decode.cpu / frames, "ms/frame", how=how)


def _sum(costs: Iterable[Cost]) -> Cost:
    walls, cpus = zip(*((cost.wall, cost.cpu) for cost in costs), strict=True)
    return Cost(sum(walls), sum(cpus))


def whole(film: Path, folder: Path) -> Iterator[Figure]:
    """Figures of one deep analysis as its pod runs it: CPU of every process, and by stage as the result reports it."""
    with launched(film, folder) as (services, command, environment):
        program = [sys.executable, "-m", "services.analyzer", *command]
        total = measured(lambda: subprocess.run(program, cwd=ROOT, env=environment, check=True), children_cpu)
    summary = json.loads(services.stored["STAGE_DEEP/results.json"])["pose"]["pose_summary"]
    seconds = summary["duration_seconds"]
    how = f"a pod's program from start to end on {seconds:.1f} s of 1080p, overlay video, report and S3 included"
    yield Figure("analyzer.whole_cpu", total.cpu / seconds, "s/s", how=how)
    yield Figure("analyzer.whole_wall", total.wall / seconds, "s/s", how=how)
    for stage, cpu in summary["run"]["cpu_seconds"].items():
        yield Figure(f"analyzer.stage_{stage}_cpu", cpu / seconds, "s/s", how="of one second of video")
    overlay = _overlay(film, folder / "overlay.mp4")
    how = f"CPU of the overlay video, its decoding included, to all the rest of that run, {overlay.cpu:.2f} s of it"
    yield Figure("analyzer.overlay_cpu_to_rest", overlay.cpu / (total.cpu - overlay.cpu), "ratio", 0.2, how=how)


def _overlay(film: Path, out: Path) -> Cost:
    """The cost of an overlay video of every frame, with the athlete of the first pass."""
    from services.analyzer.artifacts.overlay_video import Label, write_overlay
    from services.analyzer.pose.estimator import LandmarkerFactory
    from services.analyzer.pose.passes import PosePasses
    from services.analyzer.settings import Accelerator, Settings
    from services.analyzer.video.probe import probe
    from services.analyzer.video.sampling import every, on_grid

    settings = Settings(accelerator=Accelerator.cpu)
    video = probe(film, settings)
    landmarkers = LandmarkerFactory(settings.mediapipe_pose_model_path, settings.accelerator)
    poses = (
        PosePasses(video, landmarkers, settings, None).run_whole_clip(on_grid(video.times, 10), lambda _: None).whole
    )
    chosen, labels = every(video.times, 0.0, float(video.times[-1]), 30.0), [Label(1.0, "Front-foot contact", 1.0)]
    return measured(lambda: write_overlay(video, poses, chosen, settings, out, lambda _: None, labels))


def start_to_first_pose(folder: Path) -> Figure:
    """CPU of all processes of a pod from the interpreter's start to the first landmarks, including the download.

    The program sees only the packages of its image, all compiled.
    """
    subprocess.run([sys.executable, "-m", "compileall", "-q", "services", "gen"], cwd=ROOT, check=True)
    start = [sys.executable, "-c", TO_FIRST_POSE, json.dumps(foreign_to("analyzer"))]
    with launched(SAMPLE, folder) as (_, command, environment):

        def find() -> None:
            found = subprocess.check_output([*start, *command], cwd=ROOT, env=environment)
            assert found == b"1\n", f"{found!r} people were found"

        costs = [measured(find, children_cpu).cpu for _ in range(STARTS)]
    how = f"a pod's program, its lease and the sample fetched, model, probe and one pose; median of {STARTS} starts"
    return Figure("analyzer.start_to_first_pose_cpu", median(costs), "s", 1.0, how=how)


@contextmanager
def launched(film: Path, folder: Path) -> Iterator[tuple[Services, list[str], dict[str, str]]]:
    """Serve a deep launch with fakes of `jobs`, `upload` and S3; yields them, the arguments and the environment."""
    token = folder / "token"
    token.write_text(TOKEN)
    with serving(Services(video=film.read_bytes(), stage=Stage.STAGE_DEEP, lease_seconds=30)) as services:
        yield services, ["--job-id", "j", "--launch", "1"], os.environ | services.environment(token)


def memory(short: Path, folder: Path) -> Iterator[Figure]:
    """Peak memory of an analysis and its decoders, shared pages counted once, and the peak of each process."""
    long, large = folder / "long.mp4", folder / "4k.mp4"
    films = {"1080p": short, "1080p_long": repeated(long, short, LONG_COPIES), "4k": enlarged(large, FOUR_K, COPIES)}
    peaks = {}
    for name, film in films.items():
        peak, seconds = peak_memory(film, folder), _seconds(film)
        peaks[name] = peak.together
        how = f"{seconds:.0f} s; all its processes at once, what they share once"
        goal = 900 if name == "4k" else 450
        yield Figure(f"analyzer.peak_memory_{name}", peak.together / MB, "MB", goal, how=how)
        for part, rss in peak.each.items():
            yield Figure(f"analyzer.peak_rss_{name}_{part}", rss / MB, "MB", how=f"{seconds:.0f} s; shared pages too")
    growth = peaks["1080p_long"] / peaks["1080p"]
    how = f"{_seconds(long):.0f} s against {_seconds(short):.0f} s"
    yield Figure("analyzer.memory_growth", growth, "ratio", 1.1, how=how)


def enlarged(path: Path, size: tuple[int, int], copies: int, rate: int = 30, codec: str = "libx264") -> Path:
    """Write the sample `copies` times in a row, as a phone would record it: with B-frames, `rate` frames a second."""
    with av.open(str(SAMPLE)) as source:
        frames = [frame.reformat(*size, format="yuv420p") for frame in source.decode(video=0)]
    with av.open(str(path), "w") as target:
        options = {"preset": "veryfast", "bf": "2", "g": "60"}
        if codec == "libx265":
            options = {"preset": "ultrafast", "x265-params": "log-level=error:bframes=2:keyint=60"}
        stream = cast(VideoStream, target.add_stream(codec, rate=rate, options=options))
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for k in range(copies * len(frames)):
            frame = frames[k % len(frames)]
            frame.pts, frame.time_base, frame.pict_type = k, Fraction(1, rate), PictureType.NONE
            target.mux(stream.encode(frame))
        target.mux(stream.encode())
    return path


def repeated(path: Path, film: Path, copies: int) -> Path:
    """Write the video `copies` times in a row, without encoding it again."""
    return joined(path, [film] * copies)


def joined(path: Path, films: Iterable[Path]) -> Path:
    """Write videos of one encoder in a row, without encoding them again."""
    with av.open(str(path), "w") as target:
        out, offset = None, 0
        for film in films:
            with av.open(str(film)) as source:
                stream = source.streams.video[0]
                out = out or target.add_stream_from_template(stream)
                for packet in source.demux(stream):
                    if packet.pts is not None and packet.dts is not None:
                        packet.pts, packet.dts = packet.pts + offset, packet.dts + offset
                        packet.stream = out
                        target.mux(packet)
                offset += stream.duration or 0
    return path


def _seconds(film: Path) -> float:
    with av.open(str(film)) as container:
        assert container.duration is not None
        return float(container.duration / av.time_base)


def bare_decode(film: Path, chosen: Indices) -> list[av.VideoFrame]:
    """The chosen frames in their stored format; unreferenced frames in between are not decoded."""
    kept: list[av.VideoFrame] = []
    with av.open(str(film)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        assert stream.average_rate is not None
        assert stream.time_base is not None
        step = 1 / (stream.average_rate * stream.time_base)
        stamps = {round(k * step) for k in chosen.tolist()}
        if chosen[0]:
            container.seek(min(stamps), stream=stream)
        for packet in container.demux(stream):
            if packet.pts is not None:
                stream.codec_context.skip_frame = "DEFAULT" if packet.pts in stamps else "NONREF"
            kept.extend(frame for frame in packet.decode() if frame.pts in stamps)
            if len(kept) == len(chosen):
                break
    return kept


def bare_pictures(film: Path, chosen: Indices) -> list[tuple[float, RGB]]:
    """The chosen frames in the model's format, (height, width, 3) RGB, each with its seconds."""
    frames = bare_decode(film, chosen)
    return [(float(frame.time), np.ascontiguousarray(frame.to_ndarray(format="rgb24"))) for frame in frames]


def bare_pose(landmarkers: LandmarkerFactory, pictures: list[tuple[float, RGB]]) -> None:
    """Run the same model in the same mode over pictures in memory."""
    with landmarkers.create() as landmarker:
        for seconds, rgb in pictures:
            landmarker.estimate(rgb, seconds)


def _cpu() -> float:
    """CPU seconds of this process, its ended children, the sandbox server, and the decoders by their report."""
    from services.analyzer.cpu_time import CPU_SECONDS

    seconds = sum(resource.getrusage(resource.RUSAGE_SELF)[:2]) + children_cpu()
    seconds += sum(map(cpu_seconds, psutil.Process().children()))
    return seconds + CPU_SECONDS["decode"] + CPU_SECONDS["convert"]


def children_cpu() -> float:
    """CPU seconds of all ended children, with their own ended children."""
    return sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def measured(work: Callable[[], object], cpu: Callable[[], float] = _cpu) -> Cost:
    """The cost of the work. cpu: CPU seconds so far of the processes that do it."""
    began, cpu_before = time.perf_counter(), cpu()
    work()
    return Cost(time.perf_counter() - began, cpu() - cpu_before)


@dataclass
class Peak:
    """Peak memory in bytes. together: of all processes at once. each: the highest RSS of a process, by its role."""

    together: int
    each: dict[str, int]


def peak_memory(film: Path, folder: Path, *options: str, pause: float = 0.02) -> Peak:
    """The peak memory of an analysis, by sampling its process tree. pause: seconds between two samples."""
    command = [sys.executable, "-m", "services.analyzer", "--video", str(film), "--out", str(folder / "peak"), *options]
    peak = Peak(0, {"analyzer": 0, "decoder": 0, "server": 0})
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | {"CREASE_ACCELERATOR": "cpu"}) as analyzer:
        tree = psutil.Process(analyzer.pid)
        while analyzer.poll() is None:
            try:
                held = {one: Held.by(one) for one in (tree, *tree.children(recursive=True))}
                parts = {one: _part(one, tree) for one in held}
            except (psutil.Error, OSError):
                continue  # a process ended during the sample
            peak.together = max(peak.together, together(list(held.values())))
            for one, memory in held.items():
                peak.each[parts[one]] = max(peak.each[parts[one]], memory.rss)
            time.sleep(pause)
    assert analyzer.returncode == 0, f"the analysis of {film.name} failed"
    return peak


@dataclass
class Held:
    """Memory of one process in bytes. own: not of a file, shared pages divided; files: mapped files by their paths."""

    rss: int
    own: int
    files: Counter[str]

    @classmethod
    def by(cls, process: psutil.Process) -> Held:
        """The memory of a process now, from /proc."""
        rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()[1:]
        totals = {name: int(size.split()[0]) << 10 for name, size in (line.split(":") for line in rollup)}
        files = Counter[str]()
        for part in process.memory_maps(grouped=False):
            if part.path.startswith("/") and not part.path.startswith("/memfd"):
                files[part.path] += part.rss - part.anonymous
        return cls(totals["Rss"], totals["Pss_Anon"] + totals["Pss_Shmem"], files)


def together(held: list[Held]) -> int:
    """Bytes of all processes of a pod, each mapped file counted once."""
    files = Counter[str]()
    for one in held:
        files |= one.files
    return sum(one.own for one in held) + files.total()


def _part(process: psutil.Process, analyzer: psutil.Process) -> str:
    """The role of a process by its depth: analyzer, server of decoders, guard (counted as server), decoder."""
    above = [one.pid for one in process.parents()]
    depth = above.index(analyzer.pid) + 1 if process != analyzer else 0
    return ("analyzer", "server", "server", "decoder")[depth]
