"""Pins the pose model: the analyzer accepts only files with a known SHA-256 and puts the model's name in each result.

MEDIAPIPE_POSE_MODEL_PATH selects the file. All numbers in docs/metrics.md were measured with pose_landmarker_full.
"""

import hashlib
from pathlib import Path

from services.analyzer.errors import ModelFault

# SHA-256 of the files that scripts/build_model.py makes; the script and the analyzer reject any other.
MODELS = {
    "pose_landmarker_lite": "1027b565ed4b4b211a33f4a53a6e3965725a0c891e14388b4829473447c000f5",
    "pose_landmarker_full": "fb125aeef3979417d7c57020fe67d2c39f611fcef5eb4e469b625cb2b1cab4e1",
    "pose_landmarker_heavy": "170a8d8938ef5f41e061f5942ea21ab08a4e746ff571b7bc36f71340f69e7ce2",
}


def verify_model(path: Path) -> str:
    """The name of the model in the file. Raises ModelFault if the file is not a pinned model."""
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ModelFault(f"{path} cannot be read ({error.strerror})") from error
    for name, pinned in MODELS.items():
        if digest == pinned:
            return name
    raise ModelFault(f"{path} has SHA-256 {digest}, which is not that of a pinned model ({', '.join(MODELS)})")
