"""The real programs, each behind lines of its own: two `jobs`, `upload`, two controllers, PostgreSQL and S3."""

import asyncio
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from services import dev_issuer
from testing.chaos import process
from testing.chaos.database import Database, clock, database
from testing.chaos.lines import Lines, lines
from testing.servers.product import BUCKET
from testing.servers.programs import Laptop, Program, free_port
from testing.servers.s3 import Endpoint, ministack

CLUSTERS = ("north", "south")
CAPACITY = 12
LEASE_SECONDS = 10
UPLOAD_TTL_SECONDS = 60
RESTART_SECONDS = 0.2
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
    locks: dict[str, asyncio.Lock] = field(default_factory=dict)
    # The programs that ended without a fault, with their exit codes.
    ended: list[str] = field(default_factory=list)

    def lock(self, part: str) -> asyncio.Lock:
        return self.locks.setdefault(part, asyncio.Lock())

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


@contextmanager
def stack(folder: Path) -> Iterator[Stack]:
    """Everything running, until the block ends."""
    dev_issuer.create(folder / "issuer")
    laptop = Laptop(folder / "issuer")
    with ExitStack() as opened:
        server = opened.enter_context(database(folder))
        store = opened.enter_context(ministack(folder / "s3"))
        store.make_bucket(BUCKET)
        ports = {name: free_port() for name in ("jobs-1", "jobs-2", "upload", *(f"controller-{c}" for c in CLUSTERS))}
        replicas = [f"127.0.0.1:{ports['jobs-1']}", f"127.0.0.1:{ports['jobs-2']}"]
        backends: Mapping[str, Sequence[str]] = {
            **dict.fromkeys(TO_JOBS, replicas),
            "postgres-1": [server.socket],
            "postgres-2": [server.socket],
            "upload-analyzers": [f"127.0.0.1:{ports['upload']}"],
            "upload-coaches": [f"127.0.0.1:{ports['upload']}"],
            "s3": [store.url.removeprefix("http://")],
        }
        between = opened.enter_context(lines(backends))
        programs = _programs(folder, laptop, between, store, ports)
        clocks = {}
        for name in (f"controller-{cluster}" for cluster in CLUSTERS):
            clocks[name] = folder / f"{name}.clock"
            programs[name].env = {**programs[name].env, **clock(clocks[name])}
        for program in programs.values():
            opened.callback(program.kill)
        with ThreadPoolExecutor(len(programs)) as starting:
            list(starting.map(Program.start, programs.values()))
        yield Stack(folder, laptop, server, between, store, programs, clocks)


def _programs(
    folder: Path, laptop: Laptop, between: Lines, store: Endpoint, ports: Mapping[str, int]
) -> dict[str, Program]:
    made = {}
    for number in (1, 2):
        env = laptop.env | {
            "CREASE_DATABASE_URL": f"postgresql://postgres@{between.endpoint(f'postgres-{number}')}/crease",
            "CREASE_LEASE_SECONDS": str(LEASE_SECONDS),
            "CREASE_UPLOAD_TTL_SECONDS": str(UPLOAD_TTL_SECONDS),
            "CREASE_DRAIN_SECONDS": "5",
            "CREASE_METRICS_LISTEN": f"127.0.0.1:{free_port()}",
        }
        made[f"jobs-{number}"] = Program("jobs", env, folder / f"jobs-{number}.log", ports[f"jobs-{number}"])
    env = laptop.env | store.env | {
        "CREASE_S3_ENDPOINT": f"http://{between.endpoint('s3')}",
        "S3_COACH_VIDEOS_BUCKET": BUCKET,
        "CREASE_JOBS_ENDPOINT": between.endpoint("jobs-upload"),
        "CREASE_TOKEN_FILE": str(laptop.token_file("upload")),
        "CREASE_SWEEP_SECONDS": "2",
        # Half of the videos.
        "CREASE_MULTIPART_FROM_BYTES": "8000",
        "CREASE_DRAIN_SECONDS": "5",
        "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip
    made["upload"] = Program("upload", env, folder / "upload.log", ports["upload"])
    command = [sys.executable, "-I", "-S", process.__file__, str(folder / "analyzers")]
    for cluster in CLUSTERS:
        env = {
            "CREASE_JOBS_ENDPOINT": between.endpoint(f"jobs-{cluster}"),
            "CREASE_UPLOAD_ENDPOINT": between.endpoint("upload-analyzers"),
            "CREASE_TOKEN_FILE": str(laptop.token_file("controller")),
            "CREASE_CLUSTER": cluster,
            "CREASE_CAPACITY": str(CAPACITY),
            "CREASE_STATE_FOLDER": str(folder / cluster),
            "CREASE_ISSUER_FOLDER": str(laptop.folder),
            "CREASE_ANALYZER_COMMAND": json.dumps(command),
        }
        name = f"controller-{cluster}"
        made[name] = Program("controller", env, folder / f"{name}.log", ports[name])
    return made
