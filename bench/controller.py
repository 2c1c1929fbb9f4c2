"""Benchmarks the controller: latency from a queued job to its Kubernetes Job, rate of a burst, cost of many launches.

Runs as root on a real API server without a node (testing/cluster), so that only the creation is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import os
import re
import statistics
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import psutil
import psycopg
import structlog
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import load_kube_config

from bench.figures import Figure, cpu_seconds, percentile
from crease.analysis.v1.launch_pb2 import Launch, ListLaunchesResponse
from crease.events.v1.event_pb2 import Event
from crease.jobs.v1 import intake_pb2, intake_pb2_grpc, job_pb2, session_pb2, session_pb2_grpc
from services import dev_issuer
from services.controller.core.jobs_client import Jobs
from services.controller.core.reconciler import Reconciler
from services.controller.kubernetes.api_client import Api, Object, open_api
from services.controller.kubernetes.job_manifest import build_manifest
from services.controller.kubernetes.launcher import KubernetesLauncher
from services.controller.kubernetes.release import Release
from services.controller.settings import KubernetesSettings
from testing.fakes.controller import HERE, launch
from testing.servers.kubernetes import Cluster, Control, Namespace, cannot, cluster
from testing.servers.postgres import postgres
from testing.servers.programs import Laptop, Program, running

BURST, IN_FLIGHT, ROUNDS = 1000, 16, 3
PER_SECOND, SECONDS = 10, 20
MANY_REAL, MANY_FAKE, IDLE_SECONDS = 2000, 10_000, 60


def run() -> Iterator[Figure]:
    """Every figure; without a cluster, only those that need none."""
    yield from idle_fake()
    if reason := cannot():
        print(f"# the figures of a cluster are left out: {reason}", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory(prefix="crease-bench-") as folder, cluster("--control-plane") as control_plane:
        os.chmod(folder, 0o755)  # noqa: S103 (PostgreSQL runs as another user)
        with postgres(Path(folder, "data")) as server:
            scene = Scene(control_plane, Path(folder), server.clone)
            yield from latency(scene)
            yield from burst(scene)
            yield from idle_real(scene)


@dataclass
class Scene:
    """A cluster, and a source of empty databases."""

    cluster: Cluster
    folder: Path
    database: Callable[[], str]

    @contextlib.contextmanager
    def namespace(self) -> Iterator[Namespace]:
        control = Control("127.0.0.1")
        made = Namespace(self.cluster, control, self.folder)
        made.make()
        yield made
        # Waits for the deletion of a thousand Jobs, so that the next measurement does not pay for it.
        self.cluster.kubectl("delete", "namespace", made.name)
        control.close()

    @contextlib.contextmanager
    def jobs(self) -> Iterator[JobsProgram]:
        """The program `jobs`, on its own database."""
        issuer_folder = Path(tempfile.mkdtemp(dir=self.folder))
        dev_issuer.create(issuer_folder)
        laptop, url = Laptop(issuer_folder), self.database()
        env = laptop.env | {"CREASE_DATABASE_URL": url, "CREASE_LEASE_SECONDS": "3600", "CREASE_LOG_LEVEL": "warning"}
        with running(Program("jobs", env, self.folder / "jobs.log")) as program:
            yield JobsProgram(program, laptop, url)

    def controller(self, jobs: JobsProgram, namespace: Namespace, **env: str) -> Program:
        settings = namespace.env | {
            "CREASE_JOBS_ENDPOINT": jobs.program.endpoint,
            "CREASE_UPLOAD_ENDPOINT": "127.0.0.1:1",
            "CREASE_TOKEN_FILE": str(jobs.laptop.token_file("controller")),
            "CREASE_CAPACITY": "100000",
            "CREASE_TICK_SECONDS": "1",
            # Suspended, so that only the Job is measured: no pod is created for it.
            "CREASE_QUEUE_NAME": "never-admits",
            "CREASE_LOG_LEVEL": "warning",
        }
        return Program("controller", settings | env, self.folder / "controller.log")


@dataclass
class JobsProgram:
    program: Program
    laptop: Laptop
    url: str

    def __post_init__(self) -> None:
        channel = grpc.insecure_channel(self.program.endpoint)
        self._intake = intake_pb2_grpc.IntakeServiceStub(channel)
        self._upload = self.laptop.program("upload", behind="coach-1")
        sessions = session_pb2_grpc.SessionServiceStub(channel)
        session = session_pb2.CreateSessionRequest(title="Nets")
        self._session = sessions.CreateSession(session, metadata=self.laptop.person(), wait_for_ready=True).session_id

    def create(self) -> str:
        request = intake_pb2.CreateJobRequest(
            session_id=self._session, s3_bucket="b", content_type="video/mp4", content_length=10
        )
        return str(self._intake.CreateJob(request, metadata=self._upload).job_id)

    def queue(self, job_id: str) -> None:
        request = intake_pb2.ConfirmUploadRequest(job_id=job_id, etag="e", content_length=10)
        self._intake.ConfirmUpload(request, metadata=self._upload)

    def fill(self, count: int) -> None:
        """Queues many jobs at once by SQL, as copies of one."""
        first = self.create()
        self.queue(first)
        with psycopg.connect(self.url, autocommit=True) as connection:
            columns = [
                row[0]
                for row in connection.execute(
                    "SELECT column_name FROM information_schema.columns WHERE table_name = 'video_analysis_jobs'"
                    " AND is_generated = 'NEVER'"
                ).fetchall()
            ]
            given = ", ".join("gen_random_uuid()" if name == "id" else name for name in columns)
            connection.execute(
                f"INSERT INTO video_analysis_jobs ({', '.join(columns)}) SELECT {given} FROM video_analysis_jobs,"  # noqa: S608
                f" generate_series(2, {count}) WHERE id = '{first}'"
            )


class JobWatch:
    """Records when the bench's own watch reported each Job."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster, self._namespace = cluster, namespace
        self.created_at: dict[str, float] = {}

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[JobWatch]:
        async with open_api(self._cluster.admin, 4) as api:
            path = f"/apis/batch/v1/namespaces/{self._namespace}/jobs"
            version = (await api.get(path))["metadata"]["resourceVersion"]
            task = asyncio.create_task(self._run(api, path, version))
            yield self
            task.cancel()

    async def _run(self, api: Api, path: str, version: str) -> None:
        async for event in api.watch(path, 600, resourceVersion=version):
            if event["type"] == "ADDED":
                self.created_at[event["object"]["metadata"]["name"]] = time.monotonic()

    async def wait(self, count: int) -> None:
        async with asyncio.timeout(300):
            while len(self.created_at) < count:  # noqa: ASYNC110 (the cluster makes it true)
                await asyncio.sleep(0.02)

    @property
    def rate(self) -> float:
        """Jobs per second, from the first to the last."""
        return (len(self.created_at) - 1) / (max(self.created_at.values()) - min(self.created_at.values()))


def latency(scene: Scene) -> Iterator[Figure]:
    """The latency from ConfirmUpload to the Kubernetes Job at a steady rate, and the API server's part of it."""
    with scene.jobs() as jobs, scene.namespace() as namespace, running(scene.controller(jobs, namespace)):
        ours, bare = asyncio.run(_latencies(scene, jobs, namespace))
    how = f"from the call of ConfirmUpload to the event of the watch, {PER_SECOND}/s for {SECONDS} s"
    bare_how = "a bare creation by the same client to the same watch, right after, at the same rate"
    yield Figure("controller.bare_creation_p50", percentile(bare, 0.5) * 1000, "ms", how=bare_how)
    yield Figure("controller.queued_to_job_p50", percentile(ours, 0.5) * 1000, "ms", 30, how=how)
    yield Figure("controller.queued_to_job_p99", percentile(ours, 0.99) * 1000, "ms", 150, how=how)


async def _latencies(scene: Scene, jobs: JobsProgram, namespace: Namespace) -> tuple[list[float], list[float]]:
    ready = [await asyncio.to_thread(jobs.create) for _ in range(PER_SECOND * SECONDS)]
    # With another CREASE_CLUSTER, so that the controller ignores these Jobs.
    settings = namespace.settings(queue_name="never-admits", cluster="bare")
    path = f"/apis/batch/v1/namespaces/{settings.namespace}/jobs"
    bodies = [build_manifest(launch(str(uuid.uuid4()), 1), HERE, settings) for _ in ready]
    job_watch = JobWatch(scene.cluster, namespace.name).running()
    async with job_watch as watch, open_api(settings.kubeconfig, IN_FLIGHT) as api:
        first = await asyncio.to_thread(jobs.create)
        await asyncio.to_thread(jobs.queue, first)
        await watch.wait(1)
        queued = await _steadily({f"analysis-{one}-1": partial(asyncio.to_thread, jobs.queue, one) for one in ready})
        await watch.wait(1 + len(ready))
        created = await _steadily({body["metadata"]["name"]: partial(api.post, path, body) for body in bodies})
        await watch.wait(1 + len(ready) + len(bodies))
    latencies = [watch.created_at[name] - at for name, at in queued.items()]
    return latencies, [watch.created_at[name] - at for name, at in created.items()]


async def _steadily(calls: dict[str, Callable[[], Awaitable[Any]]]) -> dict[str, float]:
    """Makes PER_SECOND calls per second; returns the time of each, by name."""
    called_at, started = dict[str, float](), time.monotonic()
    for number, (name, call) in enumerate(calls.items()):
        await asyncio.sleep(started + number / PER_SECOND - time.monotonic())
        called_at[name] = time.monotonic()
        await call()
    return called_at


def burst(scene: Scene) -> Iterator[Figure]:
    """The rate of creation for many rows, against a loop that only creates, and against raw aiohttp.

    The three alternate, because the API server's own rate changes over time.
    """
    ours, bare, raw = list[tuple[float, CpuTime]](), list[tuple[float, CpuTime]](), list[float]()
    counts = []
    for _ in range(ROUNDS):
        with scene.jobs() as jobs, scene.namespace() as namespace:
            jobs.fill(BURST)
            rate, count, cpu_time = asyncio.run(_burst(scene, jobs, namespace))
        ours.append((rate, cpu_time))
        counts.append(count)
        with scene.namespace() as namespace:
            bare.append(asyncio.run(_bare(scene, namespace, _by_client)))
        with scene.namespace() as namespace:
            raw.append(asyncio.run(_bare(scene, namespace, _by_aiohttp))[0])
    (our_rate, our_cpu_time), (bare_rate, bare_cpu_time) = (statistics.median_low(some) for some in (ours, bare))
    how = f"{BURST} queued rows; ours {our_rate:.0f}/s, the loop {bare_rate:.0f}/s, raw aiohttp"
    how += f" {statistics.median_low(raw):.0f}/s; {IN_FLIGHT} in flight; medians of {ROUNDS} rounds"
    cpu = f"; CPU time per Job: ours {_split(our_cpu_time, our_rate)}; the loop {_split(bare_cpu_time, bare_rate)}"
    yield Figure("controller.burst_to_bare_loop", our_rate / bare_rate, "ratio", 0.9, most=False, how=how + cpu)
    ratio = our_rate / statistics.median_low(raw)
    yield Figure("controller.burst_to_raw_aiohttp", ratio, "ratio", 0.5, most=False, how=how)
    # The worst round.
    count = max(counts, key=lambda one: abs(one - BURST))
    yield Figure("controller.jobs_for_burst", count, "jobs", BURST, how=f"Kubernetes Jobs for as many rows, {counts}")


async def _burst(scene: Scene, jobs: JobsProgram, namespace: Namespace) -> tuple[float, int, CpuTime]:
    async with JobWatch(scene.cluster, namespace.name).running() as watch:
        controller = scene.controller(jobs, namespace)
        await asyncio.to_thread(controller.start)
        try:
            await watch.wait(1)
            before = _cpu_times()
            await watch.wait(BURST)
            cpu_time = _cpu_times() - before
        finally:
            controller.kill()
        return watch.rate, len(await asyncio.to_thread(namespace.jobs)), cpu_time


# Microseconds, by program.
CpuTime = Counter[str]
PROGRAMS = ("kube-apiserver", "etcd", "postgres", "services.jobs", "services.controller", "bench")


def _cpu_times() -> CpuTime:
    """The CPU time so far of every program that takes part in a burst."""
    times: CpuTime = Counter()
    for process in psutil.process_iter(["cmdline"]):
        command = " ".join(process.info["cmdline"] or ())
        name = next((name for name in PROGRAMS if re.search(rf"(^|[/ ]){name}\b", command)), None)
        if name:
            with contextlib.suppress(psutil.NoSuchProcess):
                times[name] += round(cpu_seconds(process) * 1e6)
    return times


def _split(cpu_time: CpuTime, rate: float) -> str:
    """The CPU time per Job by program, and its share of the machine at that rate."""
    share = cpu_time.total() / 1e6 / BURST * rate / (os.cpu_count() or 1)
    parts = ", ".join(f"{name} {microseconds / BURST / 1000:.1f} ms" for name, microseconds in cpu_time.most_common())
    return f"{parts}: {share:.0%} of all cores"


CreateAll = Callable[[KubernetesSettings, "asyncio.Queue[Object]"], Awaitable[None]]


async def _bare(scene: Scene, namespace: Namespace, create_all: CreateAll) -> tuple[float, CpuTime]:
    settings = namespace.settings(queue_name="never-admits")
    waiting: asyncio.Queue[Object] = asyncio.Queue()
    for _ in range(BURST):
        waiting.put_nowait(build_manifest(launch(str(uuid.uuid4()), 1), HERE, settings))
    async with JobWatch(scene.cluster, namespace.name).running() as watch:
        before = _cpu_times()
        await create_all(settings, waiting)
        await watch.wait(BURST)
        return watch.rate, _cpu_times() - before


async def _by_client(settings: KubernetesSettings, waiting: asyncio.Queue[Object]) -> None:
    async with open_api(settings.kubeconfig, IN_FLIGHT) as api:

        async def work() -> None:
            while not waiting.empty():
                await api.post(f"/apis/batch/v1/namespaces/{settings.namespace}/jobs", waiting.get_nowait())

        await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))


async def _by_aiohttp(settings: KubernetesSettings, waiting: asyncio.Queue[Object]) -> None:
    configuration = Configuration()
    await load_kube_config(config_file=str(settings.kubeconfig), client_configuration=configuration)
    context = ApiClient(configuration).rest_client.ssl_context
    headers = {"Authorization": configuration.api_key["BearerToken"], "Content-Type": "application/json"}
    url = f"{configuration.host}/apis/batch/v1/namespaces/{settings.namespace}/jobs"
    connector = aiohttp.TCPConnector(ssl=context, limit=IN_FLIGHT)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:

        async def work() -> None:
            while not waiting.empty():
                async with session.post(url, data=json.dumps(waiting.get_nowait())) as reply:
                    reply.raise_for_status()
                    await reply.read()

        await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))


def idle_real(scene: Scene) -> Iterator[Figure]:
    """The cost of many launches at rest; with two numbers of launches, to compare the requests."""
    requests: dict[int, float] = {}
    for count in (MANY_REAL // 10, MANY_REAL):
        with scene.jobs() as jobs, scene.namespace() as namespace:
            jobs.fill(count)
            controller = scene.controller(jobs, namespace)
            with running(controller):
                asyncio.run(_created(scene, namespace, count))
                _settle(scene.cluster)
                assert controller.process
                process = psutil.Process(controller.process.pid)
                before, started, requested = cpu_seconds(process), time.monotonic(), _count_requests(scene.cluster)
                time.sleep(IDLE_SECONDS)
                share = (cpu_seconds(process) - before) / (time.monotonic() - started) * 100
                sent = _count_requests(scene.cluster) - requested
                requests[count] = sent * 60 / (time.monotonic() - started)
                memory = process.memory_info().rss / 2**20
    how = f"{MANY_REAL} launches on a real API server, {IDLE_SECONDS} s"
    yield Figure("controller.idle_cpu", share, "% of a core", 10, how=how)
    yield Figure("controller.memory", memory, "MiB", 300, how=how)
    few = requests[MANY_REAL // 10]
    how = f"requests per minute to the API server by all, {few:.0f} with {MANY_REAL // 10} launches"
    yield Figure("controller.idle_calls", requests[MANY_REAL], "a minute", few * 1.2 + 5, how=how)


async def _created(scene: Scene, namespace: Namespace, count: int) -> None:
    async with asyncio.timeout(300):
        while len(await asyncio.to_thread(namespace.jobs)) < count:  # noqa: ASYNC110 (the cluster makes it true)
            await asyncio.sleep(2)


def _settle(cluster: Cluster) -> None:
    """Waits until neither the controller nor Kubernetes sends further Events on the created Jobs."""
    events = -1
    while events != (events := len(cluster.kubectl("get", "events", "-A", "-o", "name").splitlines())):
        time.sleep(15)


def _count_requests(cluster: Cluster) -> float:
    """The number of requests so far to the resources that the controller uses."""
    resources = [f'resource="{name}"' for name in ("jobs", "pods", "nodes", "events", "leases")]
    lines = cluster.kubectl("get", "--raw", "/metrics").splitlines()
    counters = (one for one in lines if one.startswith("apiserver_request_total{") and any(r in one for r in resources))
    return sum(float(line.rpartition(" ")[2]) for line in counters)


def idle_fake() -> Iterator[Figure]:
    """The same for more launches than the cluster can hold: a synthetic API server, in a separate process."""
    parent, child = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_idle_child, args=(child,))
    process.start()
    share, memory = parent.recv()
    process.join()
    how = f"{MANY_FAKE} synthetic launches with a pod each; RPCs to `jobs` parsed, not sent; {IDLE_SECONDS} s"
    yield Figure("controller.idle_cpu_10000", share, "% of a core", 10, how=how)
    yield Figure("controller.memory_10000", memory, "MiB", 300, how=how)


def _idle_child(answer: Connection) -> None:
    answer.send(asyncio.run(_idle()))


async def _idle() -> tuple[float, float]:
    values = {"jobs_endpoint": "-", "upload_endpoint": "-", "token_file": "/token", "namespace": "x", "cluster": "nets"}
    limits = {"capacity": MANY_FAKE, "stale_seconds": 1e6}
    settings = KubernetesSettings.model_validate(values | limits | {"analyzer_image": "a"})
    woken = asyncio.Event()
    api = SyntheticApi(settings)
    launcher = KubernetesLauncher(api, settings, Release(api, settings), woken.set)
    log = structlog.wrap_logger(None, processors=[], wrapper_class=structlog.make_filtering_bound_logger("critical"))
    reconciler = Reconciler(
        launcher,
        SyntheticJobs(),
        log,
        limits=settings.limits,
        tick_seconds=settings.tick_seconds,
        parallel=settings.parallel,
        woken=woken,
    )
    running = [asyncio.create_task(one.run()) for one in (launcher, reconciler)]
    process = psutil.Process()
    while max(launcher.cache_ages.values()) > 1e6:  # noqa: ASYNC110 (the first list is awaited)
        await asyncio.sleep(0.1)
    await asyncio.sleep(20)
    before, started = cpu_seconds(process), time.monotonic()
    await asyncio.sleep(IDLE_SECONDS)
    share = (cpu_seconds(process) - before) / (time.monotonic() - started) * 100
    for task in running:
        task.cancel()
    return share, process.memory_info().rss / 2**20


class SyntheticApi:
    """An API server whose objects are generated at each request."""

    def __init__(self, settings: KubernetesSettings) -> None:
        body = build_manifest(_numbered(0), HERE, settings)
        self._job = json.dumps(body | {"status": {"startTime": "2026-11-01T00:00:00Z", "active": 1}})
        template = body["spec"]["template"]
        self._pod = json.dumps(template | {"status": {"phase": "Running", "startTime": "2026-11-01T00:00:00Z"}})

    @property
    def now(self) -> datetime:
        return datetime(2026, 11, 1, 1, tzinfo=UTC)

    async def get(self, path: str, **query: Any) -> Object:
        if "/namespaces/" in path and path.count("/") == 4:
            return {"metadata": {"uid": "namespace"}}
        if path.endswith("nodes"):
            return {"metadata": {"resourceVersion": "1"}, "items": []}
        start = int(query["continue"] or 0)
        make = self._make_job if path.endswith("jobs") else self._make_pod
        end = min(start + query["limit"], MANY_FAKE)
        more = {"continue": str(end)} if end < MANY_FAKE else {}
        return {"metadata": {"resourceVersion": "1", **more}, "items": [make(number) for number in range(start, end)]}

    async def watch(self, path: str, seconds: float, **query: Any) -> AsyncGenerator[Object, None]:
        await asyncio.sleep(seconds)
        yield {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "1"}}}

    async def post(self, path: str, body: Object) -> Object:
        raise AssertionError("the controller must not write")

    put = patch = delete = post

    def _make_job(self, number: int) -> Object:
        one: Object = json.loads(self._job.replace(_numbered(0).job_id, _numbered(number).job_id))
        one["metadata"] |= {"uid": f"job-{number}", "creationTimestamp": "2026-11-01T00:00:00Z"}
        one["metadata"]["labels"]["crease.dev/status"] = "quick_running"
        return one

    def _make_pod(self, number: int) -> Object:
        one: Object = json.loads(self._pod.replace(_numbered(0).job_id, _numbered(number).job_id))
        owner = {"controller": True, "uid": f"job-{number}"}
        one["metadata"] |= {"name": f"p{number}", "uid": f"pod-{number}", "ownerReferences": [owner],
                            "creationTimestamp": "2026-11-01T00:00:00Z"}  # fmt: skip
        return one


def _numbered(number: int) -> Launch:
    return launch(str(uuid.UUID(int=number)), 1, kubernetes_uid=f"job-{number}", placement_reason=HERE.reason,
                  job_status=job_pb2.JOB_STATUS_QUICK_RUNNING)  # fmt: skip


class SyntheticJobs(Jobs):
    """`jobs` with as many launches; only the parsing of its answers costs time."""

    def __init__(self) -> None:
        pages = (range(start, start + 200) for start in range(0, MANY_FAKE, 200))
        self._pages = [ListLaunchesResponse(launches=map(_numbered, page)).SerializeToString() for page in pages]

    async def list_launches(self) -> list[Launch]:
        return [one for page in self._pages for one in ListLaunchesResponse.FromString(page).launches]

    async def open_launches(self, capacity: int) -> list[Launch]:
        return []

    async def events(self, after: str) -> AsyncGenerator[Event, None]:
        await asyncio.sleep(1e6)
        yield Event()
