"""The programs that `crease up` starts, their order and their settings. Each has one power, as in a cluster.

postgres ─▶ s3 ─▶ migrate ─▶ jobs ─▶ upload ─▶ controller ─▶ web
"""

import json
import os
import socket
import sys
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services import dev_issuer, naming
from services.cli.api.endpoints import Endpoints, StateDir
from services.cli.errors import USAGE, CommandError
from services.cli.laptop import lan, postgres, s3, state_dir
from services.cli.laptop.supervisor import Program, Supervisor
from services.cli.runtime import pose_model
from services.cli.ui import console
from services.clients import open_channel

BUCKET = "crease-videos"
# In start order.
PROGRAMS = ("jobs", "upload", "controller")
# On a laptop no other user waits for a call.
DRAIN_SECONDS = "2"


@dataclass(frozen=True)
class S3Access:
    """An S3 server and its keys: the laptop's own server, or the one that --s3-endpoint names."""

    endpoint: str
    bucket: str
    # AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, if set, AWS_SESSION_TOKEN.
    variables: Mapping[str, str]
    largest_video_bytes: int = 0


def start(
    supervisor: Supervisor, state: StateDir, s3_endpoint: str | None, port_base: int, *, is_open: bool = False
) -> Endpoints:
    """Starts every program and waits until each is ready. Raises CommandError, StopRequested.

    port_base: the port of jobs; see `fixed_ports`. is_open: devices of the network reach the page and S3, nothing else.
    """
    host = lan.find_address() if is_open else lan.LOOPBACK
    if is_open:
        lan.bypass_proxy(os.environ, host)
    external = external_s3(s3_endpoint, os.environ) if s3_endpoint else None
    state_dir.mint_tokens(state)
    database_url = postgres.start(supervisor, state.folder / "postgres")
    page = f"http://{host}:{state_dir.page_port(state, host)}"
    store = external or start_s3(supervisor, state, page, host)
    database = {**base_environment(os.environ), "CREASE_DATABASE_URL": database_url}
    supervisor.run("migrate", (sys.executable, "-m", "services.jobs", "migrate"), database)
    allow_page(supervisor, store, page)
    ports = fixed_ports(port_base, 2 * len(PROGRAMS))
    for program in [*programs(state, database_url, store, ports), web(state, store, page, ports)]:
        supervisor.start(program)
    return Endpoints(
        jobs_endpoint=f"127.0.0.1:{ports[0]}",
        upload_endpoint=f"127.0.0.1:{ports[1]}",
        token_file=str(state.token_file("coach")),
        largest_video_bytes=store.largest_video_bytes,
        state_folder=str(state.folder),
        page=page,
        metrics={name: f"127.0.0.1:{port}" for name, port in zip(PROGRAMS, ports[3:], strict=True)},
    )


def programs(state: StateDir, database_url: str, store: S3Access, ports: list[int]) -> list[Program]:
    """The programs, each with its own power only. `ports`: three for serving, then three for metrics."""
    jobs, upload = (f"127.0.0.1:{port}" for port in ports[:2])
    largest = {"CREASE_MAX_CONTENT_LENGTH": str(store.largest_video_bytes)} if store.largest_video_bytes else {}
    powers: dict[str, dict[str, str]] = {
        "jobs": {"CREASE_DATABASE_URL": database_url},
        "upload": {
            "CREASE_JOBS_ENDPOINT": jobs,
            "CREASE_TOKEN_FILE": str(state.token_file("upload")),
            "CREASE_S3_ENDPOINT": store.endpoint,
            "S3_COACH_VIDEOS_BUCKET": store.bucket,
            **largest,
            **store.variables,
        },
        "controller": {
            "CREASE_JOBS_ENDPOINT": jobs,
            "CREASE_UPLOAD_ENDPOINT": upload,
            "CREASE_TOKEN_FILE": str(state.token_file("controller")),
            "CREASE_CLUSTER": "laptop",
            "CREASE_STATE_FOLDER": str(state.folder / naming.CONTROLLER_FOLDER),
            "CREASE_ISSUER_FOLDER": str(state.issuer),
            "MEDIAPIPE_POSE_MODEL_PATH": str(pose_model.find()),
        },
    }
    numbered = zip(PROGRAMS, ports[:3], ports[3:], strict=True)
    return [_program(state, name, port, metrics, powers[name]) for name, port, metrics in numbered]


def web(state: StateDir, store: S3Access, page: str, ports: list[int]) -> Program:
    """The page, which has the coach's token and no other power."""
    listen = page.partition("://")[2]
    environment = {
        **base_environment(os.environ),
        "CREASE_LISTEN": listen,
        "CREASE_ORIGIN": page,
        "CREASE_S3_ORIGIN": store.endpoint.rstrip("/"),
        "CREASE_JOBS_ENDPOINT": f"127.0.0.1:{ports[0]}",
        "CREASE_UPLOAD_ENDPOINT": f"127.0.0.1:{ports[1]}",
        "CREASE_TOKEN_FILE": str(state.token_file("coach")),
        "CREASE_SIGN_IN_FOLDER": str(state_dir.page_folder(state)),
        "CREASE_ISSUERS": "[]",
        "CREASE_METRICS_LISTEN": "",
    }
    return Program("web", (sys.executable, "-m", "services.web"), environment, is_ready=lambda: _answers(page))


def _answers(page: str) -> bool:
    try:
        with urllib.request.urlopen(f"{page}/healthz", timeout=2) as reply:  # noqa: S310 (the page's own address)
            return bool(reply.status == 200)
    except OSError:
        return False


def allow_page(supervisor: Supervisor, store: S3Access, page: str) -> None:
    """Lets the page's browsers call S3. Without this right, everything works but the page's uploads."""
    environment = {
        **base_environment(os.environ),
        "CREASE_S3_ENDPOINT": store.endpoint,
        "S3_COACH_VIDEOS_BUCKET": store.bucket,
        **store.variables,
    }
    try:
        supervisor.run("allow-page", (sys.executable, "-m", "services.upload", "allow-origin", page), environment)
    except CommandError as error:
        console.print_program("web", f"cannot send videos from a browser: {error.sentence}")


def _program(state: StateDir, name: str, port: int, metrics: int, power: Mapping[str, str]) -> Program:
    environment = {
        **base_environment(os.environ),
        "CREASE_LISTEN": f"127.0.0.1:{port}",
        "CREASE_METRICS_LISTEN": f"127.0.0.1:{metrics}",
        "CREASE_ISSUERS": json.dumps(dev_issuer.issuers(state.issuer)),
        "CREASE_DRAIN_SECONDS": DRAIN_SECONDS,
        **power,
    }
    command = (sys.executable, "-m", f"services.{name}")
    return Program(name, command, environment, is_ready=lambda: is_serving(f"127.0.0.1:{port}"))


def base_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The user's environment without cloud keys, database settings and endpoints of a cluster.

    The collector of traces stays: it may run on the laptop too.
    """
    kept = {
        name: value
        for name, value in environment.items()
        if not name.startswith(("AWS_", "PG")) and (not name.endswith("_ENDPOINT") or name == "CREASE_OTLP_ENDPOINT")
    }
    # Calls between the programs must not go through a proxy.
    local = ",".join(filter(None, (environment.get("no_proxy"), "127.0.0.1,localhost")))
    return {**kept, "no_proxy": local, "NO_PROXY": local}


def external_s3(endpoint: str, environment: Mapping[str, str]) -> S3Access:
    """The user's own S3 server, with its keys from the environment. Raises CommandError."""
    variables = {name: value for name, value in environment.items() if name.startswith("AWS_")}
    missing = [name for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY") if not variables.get(name)]
    if missing:
        raise CommandError(f"--s3-endpoint needs the keys of that server: set {' and '.join(missing)}.", USAGE)
    variables.setdefault("AWS_REGION", s3.REGION)
    return S3Access(endpoint, environment.get("S3_COACH_VIDEOS_BUCKET") or BUCKET, variables)


def start_s3(supervisor: Supervisor, state: StateDir, page: str = "", host: str = lan.LOOPBACK) -> S3Access:
    """Starts the laptop's S3 server with its bucket. `page`: the origin whose browsers may call it."""
    (port,) = free_ports(1)
    folder, secret = state.folder / "s3", state_dir.s3_secret(state)
    s3.make_bucket(folder, BUCKET)
    supervisor.start(s3.program(folder, host, port, secret, page))
    variables = {"AWS_REGION": s3.REGION, "AWS_ACCESS_KEY_ID": s3.ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": secret}
    return S3Access(f"http://{host}:{port}", BUCKET, variables, s3.LARGEST_VIDEO_BYTES)


def fixed_ports(base: int, count: int) -> list[int]:
    """The ports from `base` on, with a random one in place of each that is taken; base 0: all random."""
    random = free_ports(count)
    return [
        port if base and _is_free(port) else other
        for port, other in zip(range(base, base + count), random, strict=True)
    ]


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except (OSError, OverflowError):
        return False
    return True


def free_ports(count: int) -> list[int]:
    """Distinct free ports: each stays bound until the last one is found."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports


def is_serving(endpoint: str) -> bool:
    """Whether the program's health service answers SERVING."""
    with open_channel(endpoint) as channel:
        try:
            reply = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=2)
        except grpc.RpcError:
            return False
    return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)
