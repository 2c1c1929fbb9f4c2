"""The laptop's S3 server: ministack, in an environment of its own, since it requires one exact botocore.

It checks signatures, listens on the loopback alone and keeps its objects on disk. It holds a video in memory twice
while it takes it, hence the limit.
"""

import os
import urllib.error
import urllib.request
from pathlib import Path

import services
from services.cli.laptop.supervisor import Program

ACCESS_KEY = "laptop"
REGION = "us-east-1"
LARGEST_VIDEO_BYTES = 10**9
# The account to which ministack counts a key that is not an account number.
ACCOUNT = "000000000000"


def find_python() -> Path:
    """The interpreter that has ministack."""
    named = os.environ.get("CREASE_MINISTACK_PYTHON")
    return Path(named) if named else Path(services.__file__).parents[1] / ".venv-ministack" / "bin" / "python"


def program(folder: Path, port: int, secret: str) -> Program:
    """The server on its folder."""
    return Program(
        name="s3",
        # `-P`: not with our folder in its path, whose packages are of other versions.
        command=(str(find_python()), "-P", "-m", "ministack"),
        environment=environment(folder, port, secret),
        is_ready=lambda: _answers(port),
    )


def make_bucket(folder: Path, bucket: str) -> None:
    """Before the server starts: it takes every folder that is not empty for a bucket."""
    (folder / "objects" / ACCOUNT / bucket / "coach_plus").mkdir(parents=True, exist_ok=True)
    (folder / "tmp").mkdir(exist_ok=True)


def environment(folder: Path, port: int, secret: str) -> dict[str, str]:
    """All that it is told."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        # Without it no signature is checked.
        "AUTH": "true",
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": secret,
        "MINISTACK_REGION": REGION,
        "SERVICES": "s3,sqs",
        # Objects are written at once, everything else at a stop by SIGTERM.
        "S3_PERSIST": "1",
        "S3_DATA_DIR": str(folder / "objects"),
        "PERSIST_STATE": "1",
        "STATE_DIR": str(folder / "server"),
        # Its file with its process id goes there.
        "TMPDIR": str(folder / "tmp"),
        # Both would listen on fixed ports.
        "SFTP_ENABLED": "0",
        "IOT_MTLS_ENABLED": "0",
        # At its start it removes containers that look like its own, somebody else's among them.
        "DOCKER_HOST": "unix:///nonexistent",
    }


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/_ministack/health", timeout=2) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False
