"""The pose model is pinned: the file in use is byte for byte one that is known, and its name is in every result.

MEDIAPIPE_POSE_MODEL_PATH names the file, and so which one is used. Every number of docs/metrics.md is the full one's.
"""

import hashlib
from pathlib import Path

from services.analyzer.errors import ModelFault

# SHA-256 of what scripts/build_model.py makes; both it and the analyzer refuse any other.
MODELS = {
    "pose_landmarker_lite": "1027b565ed4b4b211a33f4a53a6e3965725a0c891e14388b4829473447c000f5",
    "pose_landmarker_full": "fb125aeef3979417d7c57020fe67d2c39f611fcef5eb4e469b625cb2b1cab4e1",
    "pose_landmarker_heavy": "170a8d8938ef5f41e061f5942ea21ab08a4e746ff571b7bc36f71340f69e7ce2",
}


def verified(path: Path) -> str:
    """The name of the model that the file holds. Raises ModelFault where it is none that is pinned."""
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ModelFault(f"{path} cannot be read ({error.strerror})") from error
    for name, pinned in MODELS.items():
        if digest == pinned:
            return name
    raise ModelFault(f"{path} has SHA-256 {digest}, and none of {', '.join(MODELS)} as they are pinned has")
