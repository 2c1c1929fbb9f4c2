"""The laptop's S3 server: ministack, in a Python environment of its own because it requires one exact botocore.

It listens on one address, without --lan the loopback one, and keeps its objects on disk; `s3_guard.py` refuses every
call that its key did not sign. It holds two copies of a video in memory while it receives it, hence
LARGEST_VIDEO_BYTES.
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
# ministack uses this account for an access key that is not an account number.
ACCOUNT = "000000000000"
GUARD = Path(__file__).with_name("s3_guard.py")


def find_python() -> Path:
    """The Python interpreter that has ministack. It may not exist."""
    named = os.environ.get("CREASE_MINISTACK_PYTHON")
    return Path(named) if named else Path(services.__file__).parents[1] / ".venv-ministack" / "bin" / "python"


def program(folder: Path, host: str, port: int, secret: str, page_origin: str = "") -> Program:
    """The server on its folder. `page_origin`: the page whose browsers may call it."""
    return Program(
        name="s3",
        command=command(find_python()),
        environment=environment(folder, port, secret) | {"BIND_HOST": host, "PAGE_ORIGIN": page_origin},
        is_ready=lambda: _is_healthy(host, port),
    )


def command(python: str | Path) -> tuple[str, ...]:
    """The server's command. `-P`: without the file's own folder in its path, which is no package of its own."""
    return (str(python), "-P", str(GUARD))


def make_bucket(folder: Path, bucket: str) -> None:
    """Creates the bucket before the server starts: the server reads every folder that is not empty as a bucket."""
    (folder / "objects" / ACCOUNT / bucket / "coach_plus").mkdir(parents=True, exist_ok=True)
    (folder / "tmp").mkdir(exist_ok=True)


def environment(folder: Path, port: int, secret: str) -> dict[str, str]:
    """The server's whole environment."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        # Without this setting, ministack checks no signature.
        "AUTH": "true",
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": secret,
        "MINISTACK_REGION": REGION,
        "SERVICES": "s3,sqs",
        # ministack writes objects at once, and everything else when SIGTERM stops it.
        "S3_PERSIST": "1",
        "S3_DATA_DIR": str(folder / "objects"),
        "PERSIST_STATE": "1",
        "STATE_DIR": str(folder / "server"),
        # ministack writes its process id there.
        "TMPDIR": str(folder / "tmp"),
        # Both servers would listen on fixed ports.
        "SFTP_ENABLED": "0",
        "IOT_MTLS_ENABLED": "0",
        # At its start ministack removes containers that look like its own, even those of other users.
        "DOCKER_HOST": "unix:///nonexistent",
    }


def _is_healthy(host: str, port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{host}:{port}/_ministack/health", timeout=2) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False
