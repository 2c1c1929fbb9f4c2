"""The controller: how soon a queued job is a Kubernetes Job, how fast a burst is created, what many running ones cost.

On a real API server without a node (testing/cluster), so that nothing is measured but creation; as root.
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
from crease.analysis.v1.launch_pb2 import ListLaunchesResponse
from crease.jobs.v1 import job_pb2, job_pb2_grpc, session_pb2, session_pb2_grpc
from services import dev_issuer
from services.controller.core.reconciler import Reconciler
from services.controller.kubernetes.api_client import Api, Object, connected
from services.controller.kubernetes.job_manifest import manifest
from services.controller.kubernetes.launcher import KubernetesLauncher
from services.controller.settings import KubernetesSettings
from testing.fakes.controller import HERE, launch
from testing.servers.kubernetes import Cluster, Control, Namespace, cannot, cluster
from testing.servers.postgres import postgres
from testing.servers.programs import Laptop, Program, running

BURST, IN_FLIGHT, ROUNDS = 1000, 16, 3
PER_SECOND, SECONDS = 10, 20
MANY_REAL, MANY_FAKE, IDLE_SECONDS = 2000, 10_000, 60


def run() -> Iterator[Figure]:
    """Every figure; on a machine where no cluster can be, only what needs none."""
    yield from idle_fake()
    if reason := cannot():
        print(f"# the rest is left out: {reason}", file=sys.stderr)
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
    """A cluster, and a way to databases."""

    cluster: Cluster
    folder: Path
    database: Callable[[], str]

    @contextlib.contextmanager
    def namespace(self) -> Iterator[Namespace]:
        control = Control("127.0.0.1")
        made = Namespace(self.cluster, control, self.folder)
        made.make()
        yield made
        # Waited for: the next measurement shall not pay for the deletion of a thousand Jobs.
        self.cluster.kubectl("delete", "namespace", made.name)
        control.close()

    @contextlib.contextmanager
    def jobs(self) -> Iterator[Jobs]:
        """The program `jobs`, on a database of its own."""
        issuer_folder = Path(tempfile.mkdtemp(dir=self.folder))
        dev_issuer.create(issuer_folder)
        laptop, url = Laptop(issuer_folder), self.database()
        env = laptop.env | {"CREASE_DATABASE_URL": url, "CREASE_LEASE_SECONDS": "3600", "CREASE_LOG_LEVEL": "warning"}
        with running(Program("jobs", env, self.folder / "jobs.log")) as program:
            yield Jobs(program, laptop, url)

    def controller(self, jobs: Jobs, namespace: Namespace, **env: str) -> Program:
        settings = namespace.env | {
            "CREASE_JOBS_ENDPOINT": jobs.program.endpoint,
            "CREASE_UPLOAD_ENDPOINT": "127.0.0.1:1",
            "CREASE_TOKEN_FILE": str(jobs.laptop.token_file("controller")),
            "CREASE_CAPACITY": "100000",
            "CREASE_TICK_SECONDS": "1",
            # Nothing but the Job itself is measured: no pod is created for it.
            "CREASE_QUEUE_NAME": "nobody",
            "CREASE_LOG_LEVEL": "warning",
        }
        return Program("controller", settings | env, self.folder / "controller.log")


@dataclass
class Jobs:
    program: Program
    laptop: Laptop
    url: str

    def __post_init__(self) -> None:
        channel = grpc.insecure_channel(self.program.endpoint)
        self._intake = job_pb2_grpc.IntakeServiceStub(channel)
        self._upload = self.laptop.program("upload", behind="coach-1")
        sessions = session_pb2_grpc.SessionServiceStub(channel)
        session = session_pb2.CreateSessionRequest(title="Nets")
        self._session = sessions.CreateSession(session, metadata=self.laptop.person(), wait_for_ready=True).session_id

    def create(self) -> str:
        request = job_pb2.CreateJobRequest(
            session_id=self._session, s3_bucket="b", content_type="video/mp4", content_length=10
        )
        return str(self._intake.CreateJob(request, metadata=self._upload).job_id)

    def queue(self, job_id: str) -> None:
        request = job_pb2.ConfirmUploadRequest(job_id=job_id, etag="e", content_length=10)
        self._intake.ConfirmUpload(request, metadata=self._upload)

    def fill(self, count: int) -> None:
        """Queues many at once, as an operator's SQL would."""
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


class Watch:
    """When each Job was seen to be there, by the bench's own watch."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster, self._namespace = cluster, namespace
        self.at: dict[str, float] = {}

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[Watch]:
        async with connected(self._cluster.admin, 4) as api:
            path = f"/apis/batch/v1/namespaces/{self._namespace}/jobs"
            version = (await api.get(path))["metadata"]["resourceVersion"]
            task = asyncio.create_task(self._run(api, path, version))
            yield self
            task.cancel()

    async def _run(self, api: Api, path: str, version: str) -> None:
        async for event in api.watch(path, 600, resourceVersion=version):
            if event["type"] == "ADDED":
                self.at[event["object"]["metadata"]["name"]] = time.monotonic()

    async def wait(self, count: int) -> None:
        async with asyncio.timeout(300):
            while len(self.at) < count:  # noqa: ASYNC110 (it is the cluster that is waited for)
                await asyncio.sleep(0.02)

    @property
    def rate(self) -> float:
        """Jobs a second, from the first to the last."""
        return (len(self.at) - 1) / (max(self.at.values()) - min(self.at.values()))


def latency(scene: Scene) -> Iterator[Figure]:
    """From the call that queues a job to its Kubernetes Job, at a steady rate; and what of it is the API server's."""
    with scene.jobs() as jobs, scene.namespace() as namespace, running(scene.controller(jobs, namespace)):
        took, bare = asyncio.run(_latencies(scene, jobs, namespace))
    how = f"from ConfirmUpload's call to the watch's word, {PER_SECOND}/s for {SECONDS} s"
    alone = "a bare creation by the same client to the same watch's word, right after, at the same rate"
    yield Figure("controller.bare_creation_p50", percentile(bare, 0.5) * 1000, "ms", how=alone)
    yield Figure("controller.queued_to_job_p50", percentile(took, 0.5) * 1000, "ms", 30, how=how)
    yield Figure("controller.queued_to_job_p99", percentile(took, 0.99) * 1000, "ms", 150, how=how)


async def _latencies(scene: Scene, jobs: Jobs, namespace: Namespace) -> tuple[list[float], list[float]]:
    ready = [await asyncio.to_thread(jobs.create) for _ in range(PER_SECOND * SECONDS)]
    # Of another cluster's name, so that the controller leaves them alone.
    settings = namespace.settings(queue_name="nobody", cluster="bare")
    path = f"/apis/batch/v1/namespaces/{settings.namespace}/jobs"
    bodies = [manifest(launch(str(uuid.uuid4()), 1), HERE, settings) for _ in ready]
    watching = Watch(scene.cluster, namespace.name).kept()
    async with watching as watch, connected(settings.kubeconfig, IN_FLIGHT) as api:
        first = await asyncio.to_thread(jobs.create)
        await asyncio.to_thread(jobs.queue, first)
        await watch.wait(1)
        queued = await _steadily({f"analysis-{one}-1": partial(asyncio.to_thread, jobs.queue, one) for one in ready})
        await watch.wait(1 + len(ready))
        asked = await _steadily({body["metadata"]["name"]: partial(api.post, path, body) for body in bodies})
        await watch.wait(1 + len(ready) + len(bodies))
    return [watch.at[name] - at for name, at in queued.items()], [watch.at[name] - at for name, at in asked.items()]


async def _steadily(calls: dict[str, Callable[[], Awaitable[Any]]]) -> dict[str, float]:
    """Makes each call at its time; when that was, by its name."""
    at, began = dict[str, float](), time.monotonic()
    for number, (name, call) in enumerate(calls.items()):
        await asyncio.sleep(began + number / PER_SECOND - time.monotonic())
        at[name] = time.monotonic()
        await call()
    return at


def burst(scene: Scene) -> Iterator[Figure]:
    """Many rows at once, against a loop that does nothing but create, and against the fastest client; in turns, since
    the API server is not as fast at all times."""
    ours, bare, raw = list[tuple[float, Spent]](), list[tuple[float, Spent]](), list[float]()
    counted = []
    for _ in range(ROUNDS):
        with scene.jobs() as jobs, scene.namespace() as namespace:
            jobs.fill(BURST)
            rate, count, spent = asyncio.run(_burst(scene, jobs, namespace))
        ours.append((rate, spent))
        counted.append(count)
        with scene.namespace() as namespace:
            bare.append(asyncio.run(_bare(scene, namespace, _by_client)))
        with scene.namespace() as namespace:
            raw.append(asyncio.run(_bare(scene, namespace, _by_aiohttp))[0])
    (our_rate, our_spent), (bare_rate, bare_spent) = (statistics.median_low(some) for some in (ours, bare))
    how = f"{BURST} queued rows; ours {our_rate:.0f}/s, the loop {bare_rate:.0f}/s, raw aiohttp"
    how += f" {statistics.median_low(raw):.0f}/s; {IN_FLIGHT} in flight; medians of {ROUNDS} rounds"
    cpu = f"; CPU a Job: ours {_split(our_spent, our_rate)}; the loop {_split(bare_spent, bare_rate)}"
    yield Figure("controller.burst_to_bare_loop", our_rate / bare_rate, "ratio", 0.9, most=False, how=how + cpu)
    ratio = our_rate / statistics.median_low(raw)
    yield Figure("controller.burst_to_raw_aiohttp", ratio, "ratio", 0.5, most=False, how=how)
    # The one that is furthest off.
    count = max(counted, key=lambda one: abs(one - BURST))
    yield Figure("controller.jobs_for_burst", count, "jobs", BURST, how=f"Kubernetes Jobs for as many rows, {counted}")


async def _burst(scene: Scene, jobs: Jobs, namespace: Namespace) -> tuple[float, int, Spent]:
    async with Watch(scene.cluster, namespace.name).kept() as watch:
        controller = scene.controller(jobs, namespace)
        await asyncio.to_thread(controller.start)
        try:
            await watch.wait(1)
            before = _spent()
            await watch.wait(BURST)
            spent = _spent() - before
        finally:
            controller.kill()
        return watch.rate, len(await asyncio.to_thread(namespace.jobs)), spent


Spent = Counter[str]
PASSED_THROUGH = ("kube-apiserver", "etcd", "postgres", "services.jobs", "services.controller", "bench")


def _spent() -> Spent:
    """CPU seconds so far, by program, of all that a burst passes through."""
    spent: Spent = Counter()
    for process in psutil.process_iter(["cmdline"]):
        words = " ".join(process.info["cmdline"] or ())
        name = next((name for name in PASSED_THROUGH if re.search(rf"(^|[/ ]){name}\b", words)), None)
        if name:
            with contextlib.suppress(psutil.NoSuchProcess):
                spent[name] += cpu_seconds(process)
    return spent


def _split(spent: Spent, rate: float) -> str:
    """What it cost for each Job, by program, and how much of the machine that was at so many a second."""
    share = spent.total() / BURST * rate / (os.cpu_count() or 1)
    parts = ", ".join(f"{name} {seconds / BURST * 1000:.1f} ms" for name, seconds in spent.most_common())
    return f"{parts}: {share:.0%} of all cores"


Creating = Callable[[KubernetesSettings, "asyncio.Queue[Object]"], Any]


async def _bare(scene: Scene, namespace: Namespace, create: Creating) -> tuple[float, Spent]:
    settings = namespace.settings(queue_name="nobody")
    waiting: asyncio.Queue[Object] = asyncio.Queue()
    for _ in range(BURST):
        waiting.put_nowait(manifest(launch(str(uuid.uuid4()), 1), HERE, settings))
    async with Watch(scene.cluster, namespace.name).kept() as watch:
        before = _spent()
        await create(settings, waiting)
        await watch.wait(BURST)
        return watch.rate, _spent() - before


async def _by_client(settings: KubernetesSettings, waiting: asyncio.Queue[Object]) -> None:
    async with connected(settings.kubeconfig, IN_FLIGHT) as api:

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
    """What many launches cost when nothing changes; two numbers of them, so that calls can be compared."""
    calls: dict[int, float] = {}
    for count in (MANY_REAL // 10, MANY_REAL):
        with scene.jobs() as jobs, scene.namespace() as namespace:
            jobs.fill(count)
            controller = scene.controller(jobs, namespace)
            with running(controller):
                asyncio.run(_created(scene, namespace, count))
                _settle(scene.cluster)
                process = psutil.Process(controller.process.pid)  # type: ignore[union-attr]
                before, began, asked = cpu_seconds(process), time.monotonic(), _asked(scene.cluster)
                time.sleep(IDLE_SECONDS)
                share = (cpu_seconds(process) - before) / (time.monotonic() - began) * 100
                calls[count] = (_asked(scene.cluster) - asked) * 60 / (time.monotonic() - began)
                memory = process.memory_info().rss / 2**20
    how = f"{MANY_REAL} launches on a real API server, {IDLE_SECONDS} s"
    yield Figure("controller.idle_cpu", share, "% of a core", 10, how=how)
    yield Figure("controller.memory", memory, "MiB", 300, how=how)
    few = calls[MANY_REAL // 10]
    how = f"requests a minute to the API server by all, {few:.0f} with {MANY_REAL // 10} launches"
    yield Figure("controller.idle_calls", calls[MANY_REAL], "a minute", few * 1.2 + 5, how=how)


async def _created(scene: Scene, namespace: Namespace, count: int) -> None:
    async with asyncio.timeout(300):
        while len(await asyncio.to_thread(namespace.jobs)) < count:  # noqa: ASYNC110 (as above)
            await asyncio.sleep(2)


def _settle(cluster: Cluster) -> None:
    """Until nothing is told any more of what was created, by the controller or by Kubernetes itself."""
    told = -1
    while told != (told := len(cluster.kubectl("get", "events", "-A", "-o", "name").splitlines())):
        time.sleep(15)


def _asked(cluster: Cluster) -> float:
    """Requests to what the controller reads and writes, so far."""
    resources = [f'resource="{name}"' for name in ("jobs", "pods", "nodes", "events", "leases")]
    lines = cluster.kubectl("get", "--raw", "/metrics").splitlines()
    mine = (one for one in lines if one.startswith("apiserver_request_total{") and any(r in one for r in resources))
    return sum(float(line.rpartition(" ")[2]) for line in mine)


def idle_fake() -> Iterator[Figure]:
    """The same for more than fit here: an API server that makes up its answers, in a process that does nothing else."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_idle_child, args=(theirs,))
    process.start()
    share, memory = ours.recv()
    process.join()
    how = f"{MANY_FAKE} launches with a pod each, made up; RPCs to `jobs` parsed, not sent; {IDLE_SECONDS} s"
    yield Figure("controller.idle_cpu_10000", share, "% of a core", 10, how=how)
    yield Figure("controller.memory_10000", memory, "MiB", 300, how=how)


def _idle_child(answer: Connection) -> None:
    answer.send(asyncio.run(_idle()))


async def _idle() -> tuple[float, float]:
    values = {"jobs_endpoint": "-", "upload_endpoint": "-", "token_file": "/token", "namespace": "x", "cluster": "nets"}
    settings = KubernetesSettings(**values, analyzer_image="a", capacity=MANY_FAKE, stale_seconds=1e6)  # type: ignore[arg-type]
    woken = asyncio.Event()
    launcher = KubernetesLauncher(Invented(settings), settings, woken.set)  # type: ignore[arg-type]
    log = structlog.wrap_logger(None, processors=[], wrapper_class=structlog.make_filtering_bound_logger("critical"))
    reconciler = Reconciler(
        launcher,
        InventedJobs(),  # type: ignore[arg-type]
        log,
        limits=settings.limits,
        tick_seconds=settings.tick_seconds,
        parallel=settings.parallel,
        woken=woken,
    )
    running = [asyncio.create_task(one.run()) for one in (launcher, reconciler)]
    process = psutil.Process()
    while max(launcher.cache_ages.values()) > 1e6:  # noqa: ASYNC110 (the first list is waited for)
        await asyncio.sleep(0.1)
    await asyncio.sleep(20)
    before, began = cpu_seconds(process), time.monotonic()
    await asyncio.sleep(IDLE_SECONDS)
    share = (cpu_seconds(process) - before) / (time.monotonic() - began) * 100
    for task in running:
        task.cancel()
    return share, process.memory_info().rss / 2**20


class Invented:
    """An API server's answers, each made when it is asked for."""

    def __init__(self, settings: KubernetesSettings) -> None:
        body = manifest(_numbered(0), HERE, settings)
        self._job = json.dumps(body | {"status": {"startTime": "2026-11-01T00:00:00Z", "active": 1}})
        template = body["spec"]["template"]
        self._pod = json.dumps(template | {"status": {"phase": "Running", "startTime": "2026-11-01T00:00:00Z"}})

    @property
    def now(self) -> datetime:
        return datetime(2026, 11, 1, 1, tzinfo=UTC)

    async def get(self, path: str, **query: Any) -> Object:
        if path.endswith("nodes"):
            return {"metadata": {"resourceVersion": "1"}, "items": []}
        start = int(query["continue"] or 0)
        make = self._a_job if path.endswith("jobs") else self._a_pod
        end = min(start + query["limit"], MANY_FAKE)
        more = {"continue": str(end)} if end < MANY_FAKE else {}
        return {"metadata": {"resourceVersion": "1", **more}, "items": [make(number) for number in range(start, end)]}

    async def watch(self, path: str, seconds: float, **query: Any) -> AsyncGenerator[Object, None]:
        await asyncio.sleep(seconds)
        yield {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "1"}}}

    async def post(self, path: str, body: Object) -> Object:
        raise AssertionError("nothing is to be created")

    def _a_job(self, number: int) -> Object:
        one: Object = json.loads(self._job.replace(_numbered(0).job_id, _numbered(number).job_id))
        one["metadata"] |= {"uid": f"job-{number}", "creationTimestamp": "2026-11-01T00:00:00Z"}
        one["metadata"]["labels"]["crease.dev/status"] = "quick_running"
        return one

    def _a_pod(self, number: int) -> Object:
        one: Object = json.loads(self._pod.replace(_numbered(0).job_id, _numbered(number).job_id))
        owner = {"controller": True, "uid": f"job-{number}"}
        one["metadata"] |= {"name": f"p{number}", "uid": f"pod-{number}", "ownerReferences": [owner],
                            "creationTimestamp": "2026-11-01T00:00:00Z"}  # fmt: skip
        return one


def _numbered(number: int) -> Any:
    return launch(str(uuid.UUID(int=number)), 1, kubernetes_uid=f"job-{number}", placement_reason=HERE.reason,
                  job_status=job_pb2.JOB_STATUS_QUICK_RUNNING)  # fmt: skip


class InventedJobs:
    """`jobs`, with as many launches, in the bytes that it would send."""

    def __init__(self) -> None:
        pages = (range(start, start + 200) for start in range(0, MANY_FAKE, 200))
        self._pages = [ListLaunchesResponse(launches=map(_numbered, page)).SerializeToString() for page in pages]

    async def list_launches(self) -> list[Any]:
        return [one for page in self._pages for one in ListLaunchesResponse.FromString(page).launches]

    async def open_launches(self, capacity: int) -> list[Any]:
        return []

    async def events(self, after: str) -> AsyncGenerator[Any, None]:
        await asyncio.sleep(1e6)
        yield None
