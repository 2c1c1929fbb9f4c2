"""The pose model is pinned: the file in use is byte for byte the one that every number was checked with."""

import hashlib
from pathlib import Path

from services.analyzer.faults import ModelFault

NAME = "pose_landmarker_full"
# What scripts/build_model.py makes; both it and the analyzer refuse any other.
MODEL_SHA256 = "fb125aeef3979417d7c57020fe67d2c39f611fcef5eb4e469b625cb2b1cab4e1"


def verified(path: Path) -> Path:
    """The same path, once the file there is known to be the pinned model. Raises ModelFault."""
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ModelFault(f"{path} cannot be read ({error.strerror})") from error
    if digest != MODEL_SHA256:
        raise ModelFault(f"{path} has SHA-256 {digest}, and {MODEL_SHA256} is pinned")
    return path
