"""MediaPipe without what no pose needs: tasks that nobody asks for, and memory that its threads keep to themselves.

Its packages import every task there is, and those import what they plot and record with. Empty packages take their
places, in which any module is found as before, for good: only what is imported by its full name is there.
"""

import contextlib
import ctypes
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

PACKAGES = (
    "mediapipe", "mediapipe.tasks", "mediapipe.tasks.python", "mediapipe.tasks.python.vision",
    "mediapipe.tasks.python.components", "mediapipe.tasks.python.components.containers",
)  # fmt: skip
# glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
# A picture of 4K has 25 MB; more than 32 MB glibc does not take.
PICTURE_BYTES = 32 << 20


def one_heap() -> None:
    """All threads that begin from now on share one heap: an eighth less memory for the same CPU time.

    Each thread of a landmarker's pool would have one of its own, and what is freed stays in it.
    """
    _set(M_ARENA_MAX, 1)


def keep_pages() -> None:
    """What a picture lay in is kept for the next: the kernel would clear new pages for each, a fifteenth of all CPU."""
    _set(M_MMAP_THRESHOLD, PICTURE_BYTES)
    _set(M_TRIM_THRESHOLD, 2 * PICTURE_BYTES)


def give_back() -> None:
    """Return what is free to the kernel, also between what is not: of a landmarker's 80 MB the next fits other gaps."""
    with contextlib.suppress(AttributeError):  # another C library than GNU's
        ctypes.CDLL(None).malloc_trim(0)


def _set(what: int, value: int) -> None:
    with contextlib.suppress(AttributeError):  # another C library than GNU's
        ctypes.CDLL(None).mallopt(what, value)


def empty_packages() -> None:
    """Put them there, unless MediaPipe is imported already; to be called before it is."""
    if "mediapipe" in sys.modules:
        return
    spec = find_spec("mediapipe")
    if not spec or not spec.submodule_search_locations:
        raise ModuleNotFoundError("No module named 'mediapipe'", name="mediapipe")
    for name in PACKAGES:
        package = ModuleType(name)
        package.__path__ = [str(Path(spec.submodule_search_locations[0], *name.split(".")[1:]))]
        sys.modules[name] = package
