"""The real programs, each behind lines of its own: two `jobs`, `upload`, two controllers, PostgreSQL and S3."""

import asyncio
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from services import dev_issuer
from services.cli.laptop.postgres import SUPERUSER
from testing.chaos import process
from testing.chaos.certificate import HOST, Certificate
from testing.chaos.database import NAME, Database, clock, database
from testing.chaos.lines import Lines, lines
from testing.chaos.messages import Queue, make_queue
from testing.chaos.pods import Pods, pods
from testing.servers.pgbouncer import pgbouncer as bouncing
from testing.servers.product import BUCKET
from testing.servers.programs import Laptop, Program, free_port
from testing.servers.s3 import Endpoint, ministack

CLUSTERS = ("north", "south")
CAPACITY = 12
LEASE_SECONDS = 10
UPLOAD_TTL_SECONDS = 60
RESTART_SECONDS = 0.2
BOUNCER_SESSIONS = 20
# The lines from each program to `jobs`.
TO_JOBS = ("jobs-upload", "jobs-north", "jobs-south", "jobs-analyzers", "jobs-coaches", "jobs-readers")


@dataclass
class Stack:
    """`programs` by name. A fault locks the part that it breaks, so that each part has one fault at a time."""

    folder: Path
    laptop: Laptop
    database: Database
    lines: Lines
    s3: Endpoint
    programs: dict[str, Program]
    clocks: dict[str, Path]
    # With TLS, with a relay, with a real Kubernetes.
    certificate: Certificate | None = None
    queue: Queue | None = None
    pods: Pods | None = None
    locks: dict[str, asyncio.Lock] = field(default_factory=dict)
    # The programs that ended without a fault, with their exit codes.
    ended: list[str] = field(default_factory=list)

    def address(self, endpoint: str) -> str:
        """An endpoint of a server, as its clients write it."""
        return f"https://{endpoint}/{HOST}" if self.certificate else endpoint

    def lock(self, part: str) -> asyncio.Lock:
        return self.locks.setdefault(part, asyncio.Lock())

    def database_url(self, line: str) -> str:
        """PostgreSQL, as a program reaches it over a line."""
        return f"postgresql://{SUPERUSER}@{self.lines.endpoint(line)}/{NAME}"

    @property
    def pids(self) -> dict[str, int]:
        return {name: program.pid for name, program in self.programs.items() if program.process is not None}

    async def restart_ended(self) -> None:
        """Starts each program that ended by itself again, as Kubernetes does."""
        while True:
            for name, program in self.programs.items():
                process = program.process
                if process is None or process.poll() is None or self.lock(name).locked():
                    continue
                self.ended.append(f"{name} ended by itself with exit code {process.returncode}")
                async with self.lock(name):
                    with suppress(AssertionError):
                        await asyncio.to_thread(program.start)
            await asyncio.sleep(RESTART_SECONDS)

    @property
    def socket(self) -> Path:
        """Where the processes of launches find the stand-in analyzers."""
        return self.folder / "analyzers"

    def sql(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """By the harness's own session. Raises psycopg.Error."""
        with psycopg.connect(self.database.url, autocommit=True, connect_timeout=5) as session:
            cursor = session.execute(statement, values)
            return cursor.fetchall() if cursor.description else []


class Relay(Program):
    """It serves no RPC: it has started once it runs."""

    def _wait_until_serving(self) -> None:
        assert self.process is not None
        assert self.process.poll() is None


@contextmanager
def stack(
    folder: Path, *, tls: bool = False, pgbouncer: bool = False, relay: bool = False, kubernetes: bool = False
) -> Iterator[Stack]:
    """Everything running, until the block ends. `pgbouncer`: between the lines of `jobs` and PostgreSQL.

    `kubernetes`: the last cluster is a real one.
    """
    dev_issuer.create(folder / "issuer")
    with ExitStack() as opened:
        in_pods = opened.enter_context(pods(folder)) if kubernetes else None
        laptop = Laptop(folder / "issuer", (in_pods.namespace.issuer(),) if in_pods else ())
        server = opened.enter_context(database(folder))
        store = opened.enter_context(ministack(folder / "s3"))
        store.make_bucket(BUCKET)
        bouncer = server.socket
        if pgbouncer:
            bouncer = opened.enter_context(bouncing(folder, server.data, NAME, sessions=BOUNCER_SESSIONS))
        ports = {name: free_port() for name in ("jobs-1", "jobs-2", "upload", *(f"controller-{c}" for c in CLUSTERS))}
        replicas = [f"127.0.0.1:{ports['jobs-1']}", f"127.0.0.1:{ports['jobs-2']}"]
        backends: dict[str, Sequence[str]] = {
            **dict.fromkeys(TO_JOBS, replicas),
            "postgres-1": [bouncer],
            "postgres-2": [bouncer],
            "upload-analyzers": [f"127.0.0.1:{ports['upload']}"],
            "upload-coaches": [f"127.0.0.1:{ports['upload']}"],
            "s3": [store.url.removeprefix("http://")],
        }
        if relay:
            backends |= {"postgres-relay": [server.socket], "sqs": backends["s3"]}
        if in_pods:
            backends["kubernetes"] = [in_pods.api_server]
        between = opened.enter_context(lines(backends))
        made = Stack(folder, laptop, server, between, store, {}, {})
        made.queue = make_queue(store) if relay else None
        made.pods = in_pods
        if tls:
            made.certificate = Certificate(folder / "tls")
            # The harness is a client, too.
            os.environ |= made.certificate.trusted
        made.programs |= _programs(made, ports)
        for name in (f"controller-{cluster}" for cluster in CLUSTERS):
            made.clocks[name] = folder / f"{name}.clock"
            made.programs[name].env = {**made.programs[name].env, **clock(made.clocks[name])}
        for program in made.programs.values():
            opened.callback(program.kill)
        with ThreadPoolExecutor(len(made.programs)) as starting:
            list(starting.map(Program.start, made.programs.values()))
        yield made


def _programs(made: Stack, ports: Mapping[str, int]) -> dict[str, Program]:
    folder, between = made.folder, made.lines
    programs: dict[str, Program] = {}
    tls = made.certificate.env if made.certificate else {}

    def add(kind: str, name: str, env: Mapping[str, str]) -> None:
        # A segmentation fault leaves the stacks of all threads in the log.
        env = {**env, **tls, "PYTHONFAULTHANDLER": "1"}
        programs[name] = Program(kind, env, folder / f"{name}.log", ports[name])
        programs[name].authority = made.certificate.authorities if made.certificate else None

    for number in (1, 2):
        env = made.laptop.env | {
            "CREASE_DATABASE_URL": made.database_url(f"postgres-{number}"),
            "CREASE_LEASE_SECONDS": str(LEASE_SECONDS),
            "CREASE_UPLOAD_TTL_SECONDS": str(UPLOAD_TTL_SECONDS),
            "CREASE_DRAIN_SECONDS": "5",
            "CREASE_METRICS_LISTEN": f"127.0.0.1:{free_port()}",
        }
        add("jobs", f"jobs-{number}", env)
    env = made.laptop.env | made.s3.env | {
        "CREASE_S3_ENDPOINT": f"http://{between.endpoint('s3')}",
        "S3_COACH_VIDEOS_BUCKET": BUCKET,
        "CREASE_JOBS_ENDPOINT": made.address(between.endpoint("jobs-upload")),
        "CREASE_TOKEN_FILE": str(made.laptop.token_file("upload")),
        "CREASE_SWEEP_SECONDS": "2",
        # Half of the videos.
        "CREASE_MULTIPART_FROM_BYTES": "8000",
        "CREASE_DRAIN_SECONDS": "5",
        "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip
    add("upload", "upload", env)
    command = [sys.executable, "-I", "-S", process.__file__, str(folder / "analyzers")]
    for cluster in CLUSTERS:
        env = {
            "CREASE_JOBS_ENDPOINT": made.address(between.endpoint(f"jobs-{cluster}")),
            "CREASE_UPLOAD_ENDPOINT": made.address(between.endpoint("upload-analyzers")),
            "CREASE_TOKEN_FILE": str(made.laptop.token_file("controller")),
            "CREASE_CLUSTER": cluster,
            "CREASE_CAPACITY": str(CAPACITY),
            "CREASE_STATE_FOLDER": str(folder / cluster),
            "CREASE_ISSUER_FOLDER": str(made.laptop.folder),
            "CREASE_ANALYZER_COMMAND": json.dumps(command),
        }
        if made.pods and cluster == CLUSTERS[-1]:
            env |= made.pods.env(between.endpoint("kubernetes"), cluster)
        add("controller", f"controller-{cluster}", env)
    if made.queue:
        programs["relay"] = _relay(made, made.queue)
    return programs


def _relay(made: Stack, queue: Queue) -> Program:
    env = {name: value for name, value in made.s3.env.items() if name.startswith("AWS_")} | {
        "CREASE_DATABASE_URL": made.database_url("postgres-relay"),
        "SQS_VIDEO_ANALYSIS_QUEUE_URL": queue.url,
        "CREASE_SQS_ENDPOINT": f"http://{made.lines.endpoint('sqs')}",
        "CREASE_METRICS_LISTEN": f"127.0.0.1:{free_port()}",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    return Relay("jobs", env, made.folder / "relay.log", arguments=("relay",))
