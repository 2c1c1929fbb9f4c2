"""Finds the pose model's file on this machine."""

import os
from pathlib import Path

import services
from services.naming import POSE_MODEL

BUILT = Path("build") / "model" / f"{POSE_MODEL}.task"


def find() -> Path:
    """The file that MEDIAPIPE_POSE_MODEL_PATH names, else the one that `make setup` builds. It may not exist."""
    named = os.environ.get("MEDIAPIPE_POSE_MODEL_PATH")
    return Path(named).expanduser().resolve() if named else Path(services.__file__).parents[1] / BUILT
