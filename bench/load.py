"""Two hundred coaches at once, through the whole flow of a job: each RPC's latency, direct and through nginx.

Every coach creates a session, begins an upload, puts the film, completes it, watches the job to its end and reads it.
A controller and pods made of calls take each job through both stages. First everybody comes at once, which shows what
this machine carries; then coaches arrive at half that rate, and each RPC is timed. The proxy closes connections that
are older than a few seconds, so that every run has reconnections.
"""

import asyncio
import shutil
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import grpc.aio

from bench.figures import Figure, percentile
from bench.jobs import Callers, Meter
from crease.analysis.v1 import launch_pb2
from crease.jobs.v1 import job_pb2
from crease.upload.v1 import upload_pb2, upload_pb2_grpc
from services import dev_issuer
from testing.servers.postgres import postgres
from testing.servers.product import BUCKET, Product, product, put
from testing.servers.programs import Laptop, free_port
from testing.servers.s3 import ministack

T = TypeVar("T")
COACHES = 200
FILM = b"\0\0\0\x18ftypmp42" + bytes(1000)
# The proxy asks a client to reconnect when its connection is older.
CONNECTION_SECONDS = 5
READY_SECONDS = 30.0
PATIENCE_SECONDS = 300


@dataclass
class Run:
    """One run: the seconds of each RPC by name, and the errors that a coach saw."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    errors: list[str] = field(default_factory=list)
    done: int = 0
    jobs_cpu: float = 0.0
    wall: float = 0.0

    async def timed(self, name: str, call: Awaitable[T]) -> T:
        began = time.monotonic()
        answer = await call
        self.seconds[name].append(time.monotonic() - began)
        return answer


def run() -> Iterator[Figure]:
    """Errors, and the latency of each RPC at half of what the machine carries with all programs and coaches on it."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crease-bench-")))
        folder.chmod(0o711)
        database = stack.enter_context(postgres(folder / "data")).clone()
        dev_issuer.create(folder / "issuer")
        laptop = Laptop(folder / "issuer")
        s3 = stack.enter_context(ministack(folder / "s3"))
        s3.make_bucket(BUCKET)
        env = laptop.env | {"CREASE_DATABASE_URL": database, "CREASE_POLL_SECONDS": "0.2"}
        made = stack.enter_context(product(folder, env, laptop, s3, controlled=False))
        direct = (made.jobs.endpoint, made.upload.endpoint)
        crowd = asyncio.run(live(made, direct, pause=0.0))
        per_core, rate = COACHES / crowd.jobs_cpu, COACHES / crowd.wall / 2
        how = f"{COACHES} coaches at once"
        yield Figure("load_jobs_per_core", per_core, "1/s", how=f"{how}; CPU of `jobs` alone")
        yield Figure("load_jobs_per_second", 2 * rate, "1/s", how=f"{how}; all programs and coaches on this machine")
        yield Figure("load_errors_at_once", len(crowd.errors), "calls", 0, how=how)
        yield from figures("direct", asyncio.run(live(made, direct, pause=1 / rate)), rate)
        nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin")
        if nginx is None:
            print("# load: nginx is not installed, so nothing is measured through it: apt-get install nginx-light")
        else:
            with proxied(nginx, folder, made) as endpoints:
                yield from figures("nginx", asyncio.run(live(made, endpoints, pause=1 / rate)), rate)


def figures(way: str, run: Run, rate: float) -> Iterator[Figure]:
    how = f"{COACHES} coaches, {rate:.1f} a second"
    yield Figure(
        f"load_{way}_errors", len(run.errors), "calls", 0, how=f"{how}; {'; '.join(run.errors[:2])}".rstrip("; ")
    )
    yield Figure(f"load_{way}_done", run.done, "jobs", COACHES, most=False, how=how)
    for name, seconds in sorted(run.seconds.items()):
        p50, p99 = (1000 * percentile(seconds, share) for share in (0.5, 0.99))
        yield Figure(f"load_{way}_{name}_p99", p99, "ms", how=f"{how}; p50 {p50:.1f} ms of {len(seconds)} calls")


async def live(made: Product, endpoints: tuple[str, str], pause: float) -> Run:
    """Takes one job of each coach through its life; coaches arrive `pause` seconds apart."""
    done, meter = Run(), Meter(made.jobs)
    before = meter.read()
    async with grpc.aio.insecure_channel(made.jobs.endpoint) as own:
        launching = asyncio.create_task(launch(Callers(own, made.laptop)))
        coaches = []
        for number in range(COACHES):
            coaches.append(asyncio.create_task(coach(made.laptop, f"coach-{number}", endpoints, done)))
            await asyncio.sleep(pause)
        await asyncio.gather(*coaches)
        launching.cancel()
        with suppress(asyncio.CancelledError):
            await launching
    after = meter.read()
    done.jobs_cpu, done.wall = after.cpu - before.cpu, after.wall - before.wall
    return done


async def coach(laptop: Laptop, name: str, endpoints: tuple[str, str], run: Run) -> None:
    """One coach on connections of their own; records the first error that they see."""
    with_jobs, with_upload = (grpc.aio.insecure_channel(endpoint) for endpoint in endpoints)
    async with with_jobs, with_upload:
        calls, upload = Callers(with_jobs, laptop), upload_pb2_grpc.UploadServiceStub(with_upload)
        calls.coach = laptop.person(name)
        try:
            session = await run.timed("CreateSession", calls.session())
            asked = upload_pb2.InitiateUploadRequest(
                session_id=session, content_type="video/mp4", content_length=len(FILM)
            )
            begun = await run.timed("InitiateUpload", upload.InitiateUpload(asked, metadata=calls.coach))
            await asyncio.to_thread(put, begun, FILM)
            complete = upload_pb2.CompleteUploadRequest(job_id=begun.job_id)
            await run.timed("CompleteUpload", upload.CompleteUpload(complete, metadata=calls.coach))
            request = job_pb2.WatchJobRequest(job_id=begun.job_id)
            stream = calls.jobs.WatchJob(request, metadata=calls.coach, timeout=PATIENCE_SECONDS)
            last: Any = await run.timed("WatchJob_first", stream.read())
            while (job := await stream.read()) is not grpc.aio.EOF:
                last = job
            assert last.status == job_pb2.JOB_STATUS_DONE, last
            of_job = job_pb2.GetJobRequest(job_id=begun.job_id)
            await run.timed("GetJob", calls.jobs.GetJob(of_job, metadata=calls.coach))
            run.done += 1
        except (grpc.aio.AioRpcError, AssertionError) as error:
            run.errors.append(f"{name}: {error}"[:200])


async def launch(calls: Callers) -> None:
    """A controller and its pods, until it is cancelled: opens launches and takes each through both stages."""

    async def life(opened: launch_pb2.Launch) -> None:
        await calls.confirm(opened)
        pod = calls.laptop.pod(f"analysis-{opened.job_id}-{opened.launch_no}-aaaaa")
        secret = await calls.start(opened, pod)
        await calls.beat(opened, secret)
        for stage in (job_pb2.STAGE_QUICK, job_pb2.STAGE_DEEP):
            await calls.submit(opened, secret, stage)

    async with asyncio.TaskGroup() as lives:
        while True:
            for opened in await calls.open(COACHES):
                lives.create_task(life(opened))
            await asyncio.sleep(0.05)


@contextmanager
def proxied(nginx: str, folder: Path, made: Product) -> Iterator[tuple[str, str]]:
    """nginx in front of `jobs` and `upload`; their endpoints there."""
    ports = (free_port(), free_port())
    servers = "".join(
        f"server {{ listen 127.0.0.1:{port} http2; location / {{ grpc_pass grpc://{program.endpoint};"
        f" grpc_read_timeout {PATIENCE_SECONDS}s; grpc_socket_keepalive on; }} }}\n"
        for port, program in zip(ports, (made.jobs, made.upload), strict=True)
    )
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log;\n"
        "events { worker_connections 4096; }\n"
        f"http {{ access_log off; client_body_temp_path {folder}; keepalive_time {CONNECTION_SECONDS}s;"
        f" client_max_body_size 8m;\n{servers}}}\n"
    )
    process = subprocess.Popen([nginx, "-p", str(folder), "-c", str(config)])
    try:
        for port in ports:
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                grpc.channel_ready_future(channel).result(timeout=READY_SECONDS)
        yield f"127.0.0.1:{ports[0]}", f"127.0.0.1:{ports[1]}"
    finally:
        process.terminate()
        process.wait()
