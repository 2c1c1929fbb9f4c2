"""MediaPipe without the tasks that nobody asks for: importing all of them takes longer than all the rest.

Its packages import every task there is, and those import what they plot and record with. Empty packages take their
places, in which any module is found as before, for good: only what is imported by its full name is there.
"""

import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

PACKAGES = (
    "mediapipe", "mediapipe.tasks", "mediapipe.tasks.python", "mediapipe.tasks.python.vision",
    "mediapipe.tasks.python.components", "mediapipe.tasks.python.components.containers",
)  # fmt: skip


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
