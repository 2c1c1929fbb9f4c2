"""Imports MediaPipe without the tasks and plotting libraries that pose estimation does not need.

MediaPipe's packages import every task, and the tasks import libraries for plotting and recording. Empty packages
replace them. Modules inside are found as before, but only a module that is imported by its full name exists.
"""

import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

PACKAGES = (
    "mediapipe", "mediapipe.tasks", "mediapipe.tasks.python", "mediapipe.tasks.python.vision",
    "mediapipe.tasks.python.components", "mediapipe.tasks.python.components.containers",
)  # fmt: skip


def install_empty_packages() -> None:
    """Put empty packages into sys.modules, unless MediaPipe is imported already; call it before the first import."""
    if "mediapipe" in sys.modules:
        return
    spec = find_spec("mediapipe")
    if not spec or not spec.submodule_search_locations:
        raise ModuleNotFoundError("No module named 'mediapipe'", name="mediapipe")
    for name in PACKAGES:
        package = ModuleType(name)
        package.__path__ = [str(Path(spec.submodule_search_locations[0], *name.split(".")[1:]))]
        sys.modules[name] = package
