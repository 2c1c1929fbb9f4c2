"""The whole product on this machine, with a switch to break each part: the test bed of game days.

PostgreSQL, S3, `jobs`, `upload` and the controller are real and use a state folder like that of `crease up`, so that
`crease …` works on it. Prometheus is real too (prometheus.py); the analyses are stand-ins (analyzer.py). With a
namespace of a real Kubernetes the controller works there, without a node, so that no pod ever starts.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3
import psycopg

from crease.jobs.v1.job_pb2 import CancelJobRequest
from services import dev_issuer
from services.cli.api.endpoints import Endpoints, StateDir
from services.cli.laptop import state_dir
from services.cli.runtime.interface import Runtime
from services.cli.runtime.kubectl import Kubectl
from services.cli.runtime.kubernetes import KubernetesRuntime
from services.cli.runtime.laptop import LaptopRuntime
from testing.servers.kubernetes import Namespace
from testing.servers.postgres import Server, postgres
from testing.servers.product import BUCKET, Product
from testing.servers.programs import ROOT, Laptop, Program, free_port, running
from testing.servers.proxy import Proxy, proxy
from testing.servers.s3 import Endpoint, ministack
from tests.gameday.prometheus import Prometheus, prometheus
from tests.integration.jobs.test_relay import relay
from tests.integration.jobs.test_restart import Switch

SETTLE_SECONDS = 120.0
LEASE_SECONDS = 2
POOL_SIZE = 4
FINAL = "('done', 'failed', 'cancelled')"


@dataclass
class Arena:
    """`here` is the state folder; `line` is the proxy to S3, `queue_line` the proxy to SQS."""

    here: StateDir
    product: Product
    database_url: str
    database: Switch
    line: Proxy
    queue_line: Proxy
    prometheus: Prometheus
    # The metrics port of each program.
    metrics: dict[str, int]
    # The runtime of the analyses, as the operator's commands see it.
    place: Runtime
    namespace: Namespace | None = None
    # The last answer while the database was up.
    _newest: str = ""

    def mode(self, mode: str) -> None:
        """Sets the behaviour of analyzers: a mode of analyzer.py."""
        draft = self.here.folder / "mode.new"
        draft.write_text(mode)
        draft.replace(self.here.folder / "mode")

    def crease(self, *arguments: str, ok: bool = True) -> str:
        """Runs a `crease` command; returns its output."""
        command = [sys.executable, "-m", "services.cli", *arguments, "--state", str(self.here.folder)]
        keep = {name: value for name, value in os.environ.items() if not name.startswith(("CREASE_", "AWS_"))}
        ended = subprocess.run(command, cwd=ROOT, env=keep, capture_output=True, text=True, check=False)
        assert not ok or ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout + ended.stderr

    def newest(self) -> str:
        """The id of the newest job."""
        with contextlib.suppress(psycopg.OperationalError):
            rows = self.sql("SELECT id FROM video_analysis_jobs ORDER BY created_at DESC LIMIT 1")
            self._newest = str(rows[0][0])
        return self._newest

    def cancel_open(self) -> None:
        """Cancels every job that is not final, as its user."""
        for (job_id,) in self.sql(f"SELECT id FROM video_analysis_jobs WHERE status NOT IN {FINAL}"):  # noqa: S608
            self.product.job_stub.CancelJob(CancelJobRequest(job_id=str(job_id)), metadata=self.product.coach)

    def restart_controller(self, **env: str) -> None:
        """Restarts the controller with changed settings."""
        self.product.controller.stop()
        self.product.controller.env = {**self.product.controller.env, **env}
        self.product.controller.start()

    def sql(self, statement: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def queued(self, count: int = 1) -> list[str]:
        """Queues `count` jobs with an uploaded video; returns their ids."""
        return [self.product.uploaded(VIDEO) for _ in range(count)]

    def until(self, holds: Callable[[], object], what: str, seconds: float = SETTLE_SECONDS) -> float:
        """Waits until `holds()` is true; returns the seconds waited."""
        began = time.monotonic()
        while not holds():
            assert time.monotonic() - began < seconds, (
                f"timed out waiting for {what}; firing: {self.prometheus.firing()}"
            )
            time.sleep(0.1)
        return time.monotonic() - began

    def exposed(self) -> set[str]:
        """The `crease_` metrics that any program exports, with or without a value."""
        found = set()
        for port in self.metrics.values():
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply:
                found |= set(re.findall(r"^# TYPE (crease_\w+) ", reply.read().decode(), re.MULTILINE))
        return {name for name in found if not name.endswith("_created")}

    def all_done(self) -> bool:
        """Whether every job is final."""
        return self.sql(f"SELECT count(*) FROM video_analysis_jobs WHERE status NOT IN {FINAL}") == [(0,)]  # noqa: S608


VIDEO = (ROOT / "samples" / "batter.mp4").read_bytes()


class Beside(KubernetesRuntime):
    """A namespace whose controller runs outside the cluster: its metrics are read from this machine, not by kubectl."""

    def __init__(self, namespace: Namespace, machine: LaptopRuntime) -> None:
        kubectl = Kubectl(f"--namespace={namespace.name}", f"--kubeconfig={namespace.cluster.admin}")
        kubectl.command = (str(namespace.cluster.home / "bin" / "kubectl"), *kubectl.command[1:])
        super().__init__(kubectl)
        self._machine = machine

    def read_metrics(self) -> Mapping[str, str]:
        return self._machine.read_metrics()


@contextmanager
def arena(folder: Path, namespace: Namespace | None = None) -> Iterator[Arena]:
    """The test bed, until the block ends; PostgreSQL's own user must be able to reach `folder`."""
    here = state_dir.create(folder / "state")
    lock = state_dir.lock(here)
    state_dir.mint_tokens(here)
    metrics = {name: free_port() for name in ("jobs", "upload", "controller", "relay")}
    with ExitStack() as stack:
        stack.callback(os.close, lock)
        server = stack.enter_context(postgres(folder / "postgres"))
        store = stack.enter_context(ministack(folder / "s3"))
        store.make_bucket(BUCKET)
        line, queue_line = (stack.enter_context(proxy(store.url)) for _ in range(2))
        programs = _programs(here, server, store, line, metrics)
        if namespace:
            settings = ("CREASE_JOBS_ENDPOINT", "CREASE_UPLOAD_ENDPOINT", "CREASE_TOKEN_FILE", "CREASE_METRICS_LISTEN")
            programs[2].env = {name: programs[2].env[name] for name in settings} | namespace.env
        (here.folder / "mode").write_text("work")
        for program in programs:
            stack.enter_context(running(program))
        jobs, upload, controller = programs
        queue = _relay_env(store, queue_line, metrics["relay"])
        url = {"CREASE_DATABASE_URL": jobs.env["CREASE_DATABASE_URL"]}
        stack.enter_context(relay(queue | url, here.folder / "relay.log"))
        endpoints = {name: f"127.0.0.1:{port}" for name, port in metrics.items()}
        client = Endpoints(
            jobs.endpoint, upload.endpoint, str(here.token_file("coach")), 0, str(here.folder), metrics=endpoints
        )
        state_dir.announce(here, client)
        watching = stack.enter_context(prometheus(folder / "prometheus", metrics))
        product = Product(jobs, upload, controller, Laptop(here.issuer), here.folder)
        database = Switch(folder / "postgres", folder / "postgres" / "restart.log")
        machine = LaptopRuntime(here.folder, endpoints)
        place = Beside(namespace, machine) if namespace else machine
        yield Arena(here, product, url["CREASE_DATABASE_URL"], database, line, queue_line, watching, metrics, place,
                    namespace)  # fmt: skip


def _relay_env(store: Endpoint, line: Proxy, metrics: int) -> dict[str, str]:
    """Settings of a relay with its own queue, without the database URL."""
    client = boto3.client(
        "sqs",
        endpoint_url=store.url,
        region_name=store.region,
        aws_access_key_id=store.access_key,
        aws_secret_access_key=store.secret_key,
    )
    return {
        "SQS_VIDEO_ANALYSIS_QUEUE_URL": client.create_queue(QueueName="gameday")["QueueUrl"],
        "CREASE_SQS_ENDPOINT": line.url,
        "CREASE_METRICS_LISTEN": f"127.0.0.1:{metrics}",
        "AWS_REGION": store.region,
        "AWS_ACCESS_KEY_ID": store.access_key,
        "AWS_SECRET_ACCESS_KEY": store.secret_key,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def _programs(
    here: StateDir, server: Server, store: Endpoint, line: Proxy, metrics: dict[str, int]
) -> tuple[Program, Program, Program]:
    issuers = {"CREASE_ISSUERS": json.dumps(dev_issuer.issuers(here.issuer)), "CREASE_DRAIN_SECONDS": "1"}
    jobs = Program(
        "jobs",
        issuers
        | {
            "CREASE_DATABASE_URL": server.clone(),
            "CREASE_GAUGE_SECONDS": "0.5",
            "CREASE_SWEEP_SECONDS": "0.2",
            "CREASE_LEASE_SECONDS": str(LEASE_SECONDS),
            "CREASE_POOL_SIZE": str(POOL_SIZE),
            "CREASE_METRICS_LISTEN": f"127.0.0.1:{metrics['jobs']}",
        },
        here.folder / "jobs.log",
    )
    upload = Program(
        "upload",
        issuers
        | store.env
        | {
            "CREASE_S3_ENDPOINT": line.url,
            "S3_COACH_VIDEOS_BUCKET": BUCKET,
            "CREASE_JOBS_ENDPOINT": jobs.endpoint,
            "CREASE_TOKEN_FILE": str(here.token_file("upload")),
            "AWS_EC2_METADATA_DISABLED": "true",
            "CREASE_METRICS_LISTEN": f"127.0.0.1:{metrics['upload']}",
        },
        here.folder / "upload.log",
    )
    command = (sys.executable, "-m", "tests.gameday.analyzer", str(here.folder))
    here.logs.mkdir()
    controller = Program(
        "controller",
        {
            "CREASE_JOBS_ENDPOINT": jobs.endpoint,
            "CREASE_UPLOAD_ENDPOINT": upload.endpoint,
            "CREASE_TOKEN_FILE": str(here.token_file("controller")),
            "CREASE_CAPACITY": "4",
            "CREASE_TICK_SECONDS": "0.2",
            "CREASE_LINGER_SECONDS": "1",
            "CREASE_DELETE_ORPHANS": "false",
            "CREASE_STATE_FOLDER": str(here.folder / "controller"),
            "CREASE_ISSUER_FOLDER": str(here.issuer),
            "CREASE_ANALYZER_COMMAND": json.dumps(command),
            "CREASE_METRICS_LISTEN": f"127.0.0.1:{metrics['controller']}",
            "PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}",
        },
        here.logs / "controller.log",
    )
    return jobs, upload, controller
