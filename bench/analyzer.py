"""The analyzer against what the machine must do at least: the bare model on pictures in memory, and bare decoding.

    bound = max(bare pose wall, (bare pose CPU + bare decode CPU) / cores), over the frames of both passes

A close-up is posed a second time, in a mirror, of which that bound knows nothing; nor does it know that cores which
share their memory slow each other down. So the bare work is also done, pass by pass and its parts at once, the mirror's
too: no analyzer can be faster than that.

Everything is measured in one run on one 1080p film made from the shipped sample. The pose passes are held against
both; the whole analysis, with the overlay video that shows every frame, is printed beside it.
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

import av
import numpy as np
import psutil
from av.video.frame import PictureType

from bench.figures import Figure, cpu_seconds
from crease.jobs.v1.job_pb2 import Stage
from services.analyzer.video.sampling import Indices
from testing.fakes.analyzer_peers import TOKEN, Services, serving
from testing.servers.programs import foreign_to

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "samples" / "batter.mp4"
COPIES, FULL_HD, FOUR_K = 3, (1920, 1080), (3840, 2160)
GOAL, ROUNDS = 1.10, 3
# Times the film of the others: two minutes.
LONG_COPIES = 12
MB = 1 << 20
STARTS = 7
# The program itself, which goes once somebody has been found; what an interpreter tidies up in the end is left out.
TO_FIRST_POSE = """
import atexit, json, os, sys
atexit.register(os._exit, 0)
sys.modules |= dict.fromkeys(json.loads(sys.argv.pop(1)))
from services.analyzer import sandbox
sandbox.prepare()
from services.analyzer.__main__ import main
from services.analyzer.pose import Landmarker

def first(landmarker, rgb, seconds, estimate=Landmarker.estimate):
    print(len(estimate(landmarker, rgb, seconds)), flush=True)
    sys.exit()

Landmarker.estimate = first
main()
"""
ON = "10 fps sampled from 30, and every frame of the actions"


@dataclass
class Cost:
    """Seconds of wall and CPU, of this process and of those it started and waited for."""

    wall: float
    cpu: float


@dataclass
class Round:
    """One after the other: the passes; the bare pose and the bare decoding of their frames; both bare ones at once."""

    ours: Cost
    pose: Cost
    decode: Cost
    at_once: Cost

    def bound(self, cores: int) -> float:
        """Seconds that the machine must take at least."""
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
    """The two pose passes, sandbox and choosing of the athlete included."""
    from services.analyzer.biomechanics.events import close_up_windows
    from services.analyzer.pose.estimator import Posing
    from services.analyzer.pose.passes import Viewer, uncut
    from services.analyzer.settings import Accelerator, Settings
    from services.analyzer.video.probe import probe
    from services.analyzer.video.sampling import every, on_grid

    settings = Settings(accelerator=Accelerator.cpu)
    posing = Posing(settings.mediapipe_pose_model_path, settings.accelerator)
    video = probe(film, settings)
    wanted = on_grid(video.times, 10)
    windows: list[tuple[float, float]] = []

    def passes() -> None:
        viewer = Viewer(video, posing, settings, None)
        seen = viewer.look(wanted, lambda _: None)
        windows[:] = uncut(close_up_windows(seen.whole, "batting"), seen.steadiness.cuts)
        viewer.look_closer(seen, windows, lambda _: None)

    passes()  # what is needed once is warm
    runs = [wanted, *(every(video.times, start, end) for start, end in windows)]
    shown = [bare_pictures(film, chosen) for chosen in runs]

    def at_once(k: int) -> None:
        with ThreadPoolExecutor(3) as pool:
            ways = 2 if k else 1
            works = [partial(bare_decode, film, runs[k]), *ways * [partial(bare_pose, posing, shown[k])]]
            for work in [pool.submit(work) for work in works]:
                work.result()

    def take() -> Round:
        return Round(
            measured(passes),
            _sum(measured(partial(bare_pose, posing, pictures)) for pictures in shown),
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
    how = f"of the bare work itself, done at once, {frames - len(wanted)} frames posed in a mirror too"
    yield figure("bare_wall_to_bound", lambda one: one.at_once.wall / one.bound(cores), how=how)
    how = "the passes against that"
    yield figure("passes_wall_to_bare", lambda one: one.ours.wall / one.at_once.wall, goal=GOAL, how=how)
    yield figure("passes_cpu_to_bare", lambda one: one.ours.cpu / one.at_once.cpu, how=how)
    yield figure("bare_pose_cpu", lambda one: 1000 * one.pose.cpu / frames, "ms/frame")
    how = "those in between included"
    yield figure("bare_decode_cpu", lambda one: 1000 * one.decode.cpu / frames, "ms/frame", how=how)


def _sum(costs: Iterable[Cost]) -> Cost:
    walls, cpus = zip(*((cost.wall, cost.cpu) for cost in costs), strict=True)
    return Cost(sum(walls), sum(cpus))


def whole(film: Path, folder: Path) -> Iterator[Figure]:
    """One deep analysis as its pod does it: CPU of every process, by what the result says of its stages."""
    with launched(film, folder) as (services, command, environment):
        program = [sys.executable, "-m", "services.analyzer", *command]
        spent = measured(lambda: subprocess.run(program, cwd=ROOT, env=environment, check=True), _children)
    said = json.loads(services.stored["STAGE_DEEP/results.json"])["pose"]["pose_summary"]
    seconds = said["duration_seconds"]
    how = f"a pod's program from start to end on {seconds:.1f} s of 1080p, overlay video, report and S3 included"
    yield Figure("analyzer.whole_cpu", spent.cpu / seconds, "s/s", how=how)
    yield Figure("analyzer.whole_wall", spent.wall / seconds, "s/s", how=how)
    for stage, cpu in said["run"]["cpu_seconds"].items():
        yield Figure(f"analyzer.stage_{stage}_cpu", cpu / seconds, "s/s", how="of one second of video")
    overlay = _overlay(film, folder / "overlay.mp4")
    how = f"CPU of the overlay video, its decoding included, to all the rest of that run, {overlay.cpu:.2f} s of it"
    yield Figure("analyzer.overlay_cpu_to_rest", overlay.cpu / (spent.cpu - overlay.cpu), "ratio", 0.2, how=how)


def _overlay(film: Path, out: Path) -> Cost:
    """The overlay video of every frame, with the athlete of the first pass in it."""
    from services.analyzer.artifacts.overlay_video import Label, write_overlay
    from services.analyzer.pose.estimator import Posing
    from services.analyzer.pose.passes import Viewer
    from services.analyzer.settings import Accelerator, Settings
    from services.analyzer.video.probe import probe
    from services.analyzer.video.sampling import every, on_grid

    settings = Settings(accelerator=Accelerator.cpu)
    video, posing = probe(film, settings), Posing(settings.mediapipe_pose_model_path, settings.accelerator)
    poses = Viewer(video, posing, settings, None).look(on_grid(video.times, 10), lambda _: None).whole
    chosen, labels = every(video.times, 0.0, float(video.times[-1]), 30.0), [Label(1.0, "Front-foot contact")]
    return measured(lambda: write_overlay(video, poses, chosen, settings, out, lambda _: None, labels))


def start_to_first_pose(folder: Path) -> Figure:
    """CPU of all processes of a pod from the interpreter's start to the first landmarks, fetching included.

    Of the packages it sees those of its image alone, all compiled.
    """
    subprocess.run([sys.executable, "-m", "compileall", "-q", "services", "gen"], cwd=ROOT, check=True)
    start = [sys.executable, "-c", TO_FIRST_POSE, json.dumps(foreign_to("analyzer"))]
    with launched(SAMPLE, folder) as (_, command, environment):

        def find() -> None:
            found = subprocess.check_output([*start, *command], cwd=ROOT, env=environment)
            assert found == b"1\n", f"{found!r} people were found"

        costs = [measured(find, _children).cpu for _ in range(STARTS)]
    how = f"a pod's program, its lease and the sample fetched, model, probe and one pose; median of {STARTS} starts"
    return Figure("analyzer.start_to_first_pose_cpu", median(costs), "s", 1.0, how=how)


@contextmanager
def launched(film: Path, folder: Path) -> Iterator[tuple[Services, list[str], dict[str, str]]]:
    """A deep launch: small fakes of `jobs`, `upload` and S3 on this machine, its arguments and its environment."""
    token = folder / "token"
    token.write_text(TOKEN)
    with serving(Services(video=film.read_bytes(), stage=Stage.STAGE_DEEP, lease_seconds=30)) as services:
        yield services, ["--job-id", "j", "--launch", "1"], os.environ | services.environment(token)


def memory(short: Path, folder: Path) -> Iterator[Figure]:
    """The most that an analysis and its decoders hold, pages they share counted once; and each of them, told apart."""
    long, large = folder / "long.mp4", folder / "4k.mp4"
    films = {"1080p": short, "1080p_long": repeated(long, short, LONG_COPIES), "4k": enlarged(large, FOUR_K, COPIES)}
    peaks = {}
    for name, film in films.items():
        peak, seconds = _peak(film, folder), _seconds(film)
        peaks[name] = peak.together
        how = f"{seconds:.0f} s; all its processes at once, what they share once"
        goal = 900 if name == "4k" else 450
        yield Figure(f"analyzer.peak_memory_{name}", peak.together / MB, "MB", goal, how=how)
        for part, rss in peak.each.items():
            yield Figure(f"analyzer.peak_rss_{name}_{part}", rss / MB, "MB", how=f"{seconds:.0f} s; shared pages too")
    growth = peaks["1080p_long"] / peaks["1080p"]
    how = f"{_seconds(long):.0f} s against {_seconds(short):.0f} s"
    yield Figure("analyzer.memory_growth", growth, "ratio", 1.1, how=how)


def enlarged(path: Path, size: tuple[int, int], copies: int) -> Path:
    """The sample, so many times one after the other, as a phone would film it: H.264 with B-frames."""
    with av.open(str(SAMPLE)) as source:
        frames = [frame.reformat(*size, format="yuv420p") for frame in source.decode(video=0)]
    with av.open(str(path), "w") as target:
        stream = target.add_stream("libx264", rate=30, options={"preset": "veryfast", "bf": "2", "g": "60"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for k in range(copies * len(frames)):
            frame = frames[k % len(frames)]
            frame.pts, frame.time_base, frame.pict_type = k, Fraction(1, 30), PictureType.NONE
            target.mux(stream.encode(frame))
        target.mux(stream.encode())
    return path


def repeated(path: Path, film: Path, copies: int) -> Path:
    """The film, so many times one after the other, without coding it again."""
    with av.open(str(path), "w") as target:
        out = None
        for k in range(copies):
            with av.open(str(film)) as source:
                stream = source.streams.video[0]
                out = out or target.add_stream_from_template(stream)
                for packet in source.demux(stream):
                    if packet.dts is not None:
                        packet.pts, packet.dts = (at + k * stream.duration for at in (packet.pts, packet.dts))
                        packet.stream = out
                        target.mux(packet)
    return path


def _seconds(film: Path) -> float:
    with av.open(str(film)) as container:
        return float(container.duration / av.time_base)


def bare_decode(film: Path, chosen: Indices) -> list[av.VideoFrame]:
    """The chosen frames, as they are stored; what no other frame needs is not decoded."""
    kept: list[av.VideoFrame] = []
    with av.open(str(film)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
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


def bare_pictures(film: Path, chosen: Indices) -> list[tuple[float, np.ndarray]]:
    """The chosen frames in memory, as the model takes them, with their seconds."""
    frames = bare_decode(film, chosen)
    return [(float(frame.time), np.ascontiguousarray(frame.to_ndarray(format="rgb24"))) for frame in frames]


def bare_pose(posing: object, pictures: list[tuple[float, np.ndarray]]) -> None:
    """The same model, in the same mode, over pictures that are there already."""
    with posing.fresh() as landmarker:  # type: ignore[attr-defined]
        for seconds, rgb in pictures:
            landmarker.estimate(rgb, seconds)


def _cpu() -> float:
    """Seconds of this process, of those it waited for, and of its decoder's server with what the decoders told."""
    from services.analyzer.cpu_time import SPENT

    spent = sum(resource.getrusage(resource.RUSAGE_SELF)[:2]) + _children()
    spent += sum(map(cpu_seconds, psutil.Process().children()))
    return spent + SPENT["decode"] + SPENT["convert"]


def _children() -> float:
    """Seconds of CPU of all processes that it waited for, and those they did."""
    return sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def measured(work: Callable[[], object], cpu: Callable[[], float] = _cpu) -> Cost:
    """What the work took. cpu: seconds so far of those who do it."""
    began, taken = time.perf_counter(), cpu()
    work()
    return Cost(time.perf_counter() - began, cpu() - taken)


@dataclass
class Peak:
    """Bytes. together: of all processes, at their highest; each: the highest RSS of a process, by what it does."""

    together: int
    each: dict[str, int]


def _peak(film: Path, folder: Path) -> Peak:
    """By looking at the whole process tree all the time."""
    command = [sys.executable, "-m", "services.analyzer", "--video", str(film), "--out", str(folder / "peak")]
    peak = Peak(0, {"analyzer": 0, "decoder": 0, "server": 0})
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | {"CREASE_ACCELERATOR": "cpu"}) as analyzer:
        tree = psutil.Process(analyzer.pid)
        while analyzer.poll() is None:
            try:
                held = {one: Held.by(one) for one in (tree, *tree.children(recursive=True))}
                parts = {one: _part(one, tree) for one in held}
            except (psutil.Error, OSError):
                continue  # one of them has just gone
            peak.together = max(peak.together, together(list(held.values())))
            for one, memory in held.items():
                peak.each[parts[one]] = max(peak.each[parts[one]], memory.rss)
            time.sleep(0.02)
    assert analyzer.returncode == 0, f"the analysis of {film.name} failed"
    return peak


@dataclass
class Held:
    """Bytes of one process. own: of no file, what it shares with another split between them; files: by their paths."""

    rss: int
    own: int
    files: Counter[str]

    @classmethod
    def by(cls, process: psutil.Process) -> Held:
        """As the kernel tells now."""
        rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()[1:]
        told = {name: int(size.split()[0]) << 10 for name, size in (line.split(":") for line in rollup)}
        files = Counter[str]()
        for part in process.memory_maps(grouped=False):
            if part.path.startswith("/") and not part.path.startswith("/memfd"):
                files[part.path] += part.rss - part.anonymous
        return cls(told["Rss"], told["Pss_Anon"] + told["Pss_Shmem"], files)


def together(held: list[Held]) -> int:
    """What the processes of a pod hold: files once, however many others on this machine have mapped them too."""
    files = Counter[str]()
    for one in held:
        files |= one.files
    return sum(one.own for one in held) + files.total()


def _part(process: psutil.Process, analyzer: psutil.Process) -> str:
    """The analyzer; under it the server of decoders with a guard each; under those the decoders."""
    above = [one.pid for one in process.parents()]
    depth = above.index(analyzer.pid) + 1 if process != analyzer else 0
    return ("analyzer", "server", "server", "decoder")[depth]
