"""Measures how long a coach waits: from CompleteUpload's return to the quick finding and to the done job.

One `crease up` runs everything, as on a laptop. Films of 3 and 10 seconds are analysed one at a time. Then several
short ones wait at once for two analyzers. The trace of a job says where its seconds went.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from bench.analyzer import FOUR_K, FULL_HD, enlarged
from bench.figures import Figure, percentile
from crease.jobs.v1.job_pb2 import Job, JobStatus, Stage
from crease.jobs.v1.session_pb2 import CreateSessionRequest, Discipline
from crease.upload.v1.upload_pb2 import InitiateUploadRequest
from services.cli.api import endpoints
from services.cli.api.client import Services, connect
from services.cli.api.endpoints import StateDir
from testing.servers.otlp import Collector, Span, collecting

ROUNDS, WAITING, ANALYZERS = 3, 6, 2
QUICK_GOAL, DONE_GOAL, WAITING_GOAL = 4.0, 12.0, 1.1
# The copies of the sample, 3.5 s each at 30 frames per second, that make the films of about 3 and 10 seconds.
SHORT, LONG = 1, 3
START_SECONDS = 120.0
ON = "the rendered batter alone in view"


@dataclass(frozen=True)
class Film:
    """A film's name in the figures, and its file."""

    name: str
    path: Path


@dataclass(frozen=True)
class Answer:
    """Seconds from CompleteUpload's return until each result could be read, and until the job was done.

    queued_at: nanoseconds since the epoch at that return.
    """

    job_id: str
    queued_at: int
    quick: float
    deep: float
    done: float


def run() -> Iterator[Figure]:
    """All figures of one laptop."""
    with tempfile.TemporaryDirectory(prefix="crease-bench-") as name, collecting() as collector:
        folder = Path(name)
        with laptop(folder, collector) as services:
            films = list(made_films(folder))
            ask(services, films[0].path)  # warms up what the operating system caches
            for film in films:
                yield from alone(services, film, collector)
            yield from waiting(services, films[0])


def made_films(folder: Path) -> Iterator[Film]:
    """The films, the short ones first."""
    for copies, seconds in ((SHORT, "3s"), (LONG, "10s")):
        yield Film(f"1080p30_{seconds}", enlarged(folder / f"h264-{seconds}.mp4", FULL_HD, copies))
        hevc = enlarged(folder / f"hevc-{seconds}.mp4", FULL_HD, 2 * copies, rate=60, codec="libx265")
        yield Film(f"1080p60_hevc_{seconds}", hevc)
        yield Film(f"4k30_{seconds}", enlarged(folder / f"4k-{seconds}.mp4", FOUR_K, copies))


@contextmanager
def laptop(folder: Path, collector: Collector) -> Iterator[Services]:
    """A `crease up` on a state of its own, until the block ends."""
    state = StateDir(folder / "state")
    command = [sys.executable, "-m", "services.cli", "up", "--state", str(state.folder), "--port-base", "0"]
    traced = {"CREASE_OTLP_ENDPOINT": collector.endpoint, "CREASE_TRACE_SHARE": "1"}
    environment = os.environ | traced | {"CREASE_CAPACITY": str(ANALYZERS)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as program:
        try:
            deadline = time.monotonic() + START_SECONDS
            while not state.client_file.exists():
                assert program.poll() is None, "crease up ended"
                assert time.monotonic() < deadline, "crease up is not ready"
                time.sleep(0.1)
            with connect(endpoints.read_announced(state)) as services:
                yield services
        finally:
            program.terminate()


def ask(services: Services, film: Path) -> Answer:
    """Send a film and follow its job to the end."""
    session = services.call(
        services.sessions.CreateSession,
        CreateSessionRequest(title="Nets", discipline=Discipline.DISCIPLINE_BATTING),
    )
    job_id = services.upload(film, InitiateUploadRequest(session_id=session.session_id)).job_id
    began, queued_at = time.monotonic(), time.time_ns()
    readable: dict[int, float] = {}
    job = Job()
    for job in services.watch(job_id):
        readable.setdefault(job.results_stage, time.monotonic() - began)
    assert job.status == JobStatus.JOB_STATUS_DONE, job.error_message
    done = time.monotonic() - began
    return Answer(job_id, queued_at, readable[Stage.STAGE_QUICK], readable[Stage.STAGE_DEEP], done)


def alone(services: Services, film: Film, collector: Collector) -> Iterator[Figure]:
    """Figures of one film at a time, with the parts of the median answer."""
    answers = sorted((ask(services, film.path) for _ in range(ROUNDS)), key=lambda answer: answer.done)
    how = f"after CompleteUpload; {ON}; median of {ROUNDS}"
    yield Figure(f"answer.quick_{film.name}", median(one.quick for one in answers), "s", QUICK_GOAL, how=how)
    yield Figure(f"answer.deep_{film.name}", median(one.deep for one in answers), "s", how=how)
    yield Figure(f"answer.done_{film.name}", median(one.done for one in answers), "s", DONE_GOAL, how=how)
    of_median = answers[len(answers) // 2]
    for part, seconds in parts(trace_of(of_median, collector), of_median.queued_at).items():
        yield Figure(f"answer.part_{film.name}_{part}", seconds, "s", how="of that job, from its trace")


def trace_of(answer: Answer, collector: Collector) -> dict[str, Span]:
    """The spans of a job's analysis by name; those of a stage as `STAGE.NAME`. Waits until all are sent."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        spans = list(collector.spans)
        traces = {span.trace for span in spans if span.attributes.get("job_id") == answer.job_id}
        mine = {span.id: span for span in spans if span.trace in traces}
        names = {span.name: span for span in mine.values()}
        if {"launch", "analysis"} <= names.keys():
            inner = {
                f"{mine[span.parent].name}.{span.name}": span
                for span in mine.values()
                if span.parent in mine and mine[span.parent].name in ("quick", "deep")
            }
            return names | inner
        assert time.monotonic() < deadline, f"the trace of {answer.job_id} is incomplete: {sorted(names)}"
        time.sleep(0.1)


def parts(spans: dict[str, Span], queued_at: int) -> dict[str, float]:
    """Seconds of each part of the way, in order; `rest` of a stage is what its own spans leave."""
    launch, analysis, fetch, quick = (spans[name] for name in ("launch", "analysis", "fetch", "quick"))
    nanoseconds = {
        "queue": launch.began - queued_at,
        "launch": launch.ended - launch.began,
        "start": analysis.began - launch.ended,
        "lease": fetch.began - analysis.began,
        "fetch": fetch.ended - fetch.began,
        "open": quick.began - fetch.ended,
    }
    for stage in ("quick", "deep"):
        inner = {name: span for name, span in spans.items() if name.startswith(f"{stage}.")}
        steps = {name.replace(".", "_"): span.ended - span.began for name, span in inner.items()}
        nanoseconds |= steps | {f"{stage}_rest": spans[stage].ended - spans[stage].began - sum(steps.values())}
    return {name: spent / 1e9 for name, spent in nanoseconds.items()}


def waiting(services: Services, film: Film) -> Iterator[Figure]:
    """Figures of several films sent at once. The bound: the same films in pairs, one pair after the other."""
    began = time.monotonic()
    with ThreadPoolExecutor(ANALYZERS) as pool:
        list(pool.map(partial(ask, services), ANALYZERS * [film.path]))
    pair = time.monotonic() - began
    with ThreadPoolExecutor(WAITING) as pool:
        answers = list(pool.map(partial(ask, services), WAITING * [film.path]))
    how = f"{WAITING} films of {film.name} sent at once to {ANALYZERS} analyzers"
    for share in (50, 95):
        quick = percentile([one.quick for one in answers], share / 100)
        yield Figure(f"answer.waiting_quick_p{share}", quick, "s", how=how)
    done = {share: percentile([one.done for one in answers], share / 100) for share in (50, 95)}
    for share, seconds in done.items():
        yield Figure(f"answer.waiting_done_p{share}", seconds, "s", how=how)
    bound = pair * WAITING / ANALYZERS
    how = f"p95 of done against {WAITING // ANALYZERS} pairs of {pair:.1f} s one after the other"
    yield Figure("answer.waiting_done_to_bound", done[95] / bound, "ratio", WAITING_GOAL, how=how)
