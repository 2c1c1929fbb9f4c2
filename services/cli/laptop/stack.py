"""What `crease up` starts, in which order, and what each part is told; one power each, as in a cluster.

postgres ─▶ s3 ─▶ migrate ─▶ jobs ─▶ upload ─▶ controller
"""

import json
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services import dev_issuer
from services.cli.errors import USAGE, Trouble
from services.cli.laptop import postgres, prerequisites, s3, state_dir
from services.cli.laptop.state_dir import Client, Laptop
from services.cli.laptop.supervisor import Program, Tree
from services.clients import open_channel

BUCKET = "crease-videos"
# In the order in which they are started.
PROGRAMS = ("jobs", "upload", "controller")
# On a laptop nobody waits for the last calls of others.
DRAIN_SECONDS = "2"


@dataclass(frozen=True)
class Store:
    """An S3 server and the right to use it: ours, or the one that --s3-endpoint names."""

    endpoint: str
    bucket: str
    # AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, where there is one, AWS_SESSION_TOKEN.
    access: Mapping[str, str]
    largest_video_bytes: int = 0


def start(tree: Tree, here: Laptop, s3_endpoint: str | None) -> Client:
    """Starts every part and waits until it is ready. Raises Trouble, or Stopped."""
    theirs = their_store(s3_endpoint, os.environ) if s3_endpoint else None
    state_dir.mint_tokens(here)
    database_url = postgres.start(tree, here.folder / "postgres")
    store = theirs or start_s3(tree, here)
    database = {**base_environment(os.environ), "CREASE_DATABASE_URL": database_url}
    tree.run("migrate", (sys.executable, "-m", "services.jobs", "migrate"), database)
    ports = free_ports(6)
    for program in programs(here, database_url, store, ports):
        tree.start(program)
    return Client(
        jobs_endpoint=f"127.0.0.1:{ports[0]}",
        upload_endpoint=f"127.0.0.1:{ports[1]}",
        token_file=str(here.token_file("coach")),
        largest_video_bytes=store.largest_video_bytes,
        state_folder=str(here.folder),
        metrics={name: f"127.0.0.1:{port}" for name, port in zip(PROGRAMS, ports[3:], strict=True)},
    )


def programs(here: Laptop, database_url: str, store: Store, ports: list[int]) -> list[Program]:
    """Each with its own power and none of the others'; the ports they serve at, then those of their metrics."""
    jobs, upload = (f"127.0.0.1:{port}" for port in ports[:2])
    powers: dict[str, dict[str, str]] = {
        "jobs": {"CREASE_DATABASE_URL": database_url},
        "upload": {
            "CREASE_JOBS_ENDPOINT": jobs,
            "CREASE_TOKEN_FILE": str(here.token_file("upload")),
            "CREASE_S3_ENDPOINT": store.endpoint,
            "S3_COACH_VIDEOS_BUCKET": store.bucket,
            **store.access,
        },
        "controller": {
            "CREASE_JOBS_ENDPOINT": jobs,
            "CREASE_UPLOAD_ENDPOINT": upload,
            "CREASE_TOKEN_FILE": str(here.token_file("controller")),
            "CREASE_CLUSTER": "laptop",
            "CREASE_STATE_FOLDER": str(here.folder / "controller"),
            "CREASE_ISSUER_FOLDER": str(here.issuer),
            "MEDIAPIPE_POSE_MODEL_PATH": str(prerequisites.find_model()),
        },
    }
    watched = zip(PROGRAMS, ports[:3], ports[3:], strict=True)
    return [_program(here, name, port, metrics, powers[name]) for name, port, metrics in watched]


def _program(here: Laptop, name: str, port: int, metrics: int, power: Mapping[str, str]) -> Program:
    environment = {
        **base_environment(os.environ),
        "CREASE_LISTEN": f"127.0.0.1:{port}",
        "CREASE_METRICS_LISTEN": f"127.0.0.1:{metrics}",
        "CREASE_ISSUERS": json.dumps(dev_issuer.issuers(here.issuer)),
        "CREASE_DRAIN_SECONDS": DRAIN_SECONDS,
        **power,
    }
    command = (sys.executable, "-m", f"services.{name}")
    return Program(name, command, environment, is_ready=lambda: serves(f"127.0.0.1:{port}"))


def base_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The user's own, without the keys of their cloud and the addresses of their cluster."""
    kept = {
        name: value
        for name, value in environment.items()
        if not name.startswith(("AWS_", "PG")) and not name.endswith("_ENDPOINT")
    }
    # What the programs say to each other is for no proxy.
    local = ",".join(filter(None, (environment.get("no_proxy"), "127.0.0.1,localhost")))
    return {**kept, "no_proxy": local, "NO_PROXY": local}


def their_store(endpoint: str, environment: Mapping[str, str]) -> Store:
    """The user's own S3 server, with the keys that the environment has for it."""
    access = {name: value for name, value in environment.items() if name.startswith("AWS_")}
    missing = [name for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY") if not access.get(name)]
    if missing:
        raise Trouble(f"--s3-endpoint needs the keys of that server: set {' and '.join(missing)}.", USAGE)
    access.setdefault("AWS_REGION", s3.REGION)
    return Store(endpoint, environment.get("S3_COACH_VIDEOS_BUCKET") or BUCKET, access)


def start_s3(tree: Tree, here: Laptop) -> Store:
    """Our own S3 server, with its bucket."""
    (port,) = free_ports(1)
    folder, secret = here.folder / "s3", state_dir.s3_secret(here)
    s3.make_bucket(folder, BUCKET)
    tree.start(s3.program(folder, port, secret))
    access = {"AWS_REGION": s3.REGION, "AWS_ACCESS_KEY_ID": s3.ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": secret}
    return Store(f"http://127.0.0.1:{port}", BUCKET, access, s3.LARGEST_VIDEO_BYTES)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on. All are held until the last is found, so that no two are the same."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports


def serves(endpoint: str) -> bool:
    """Whether a program of ours answers that it serves."""
    with open_channel(endpoint) as channel:
        try:
            reply = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=2)
        except grpc.RpcError:
            return False
    return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)
