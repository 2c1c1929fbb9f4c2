"""Locates the videos that tests read: the sample in the repository, and real videos if the corpus is installed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.analyzer.arrays import Floats
from services.analyzer.settings import BUILT_MODEL

ROOT = Path(__file__).parents[2]
BATTER = ROOT / "samples" / "batter.mp4"
CORPUS = ROOT.parent / "shared" / "corpus"

needs_model = pytest.mark.skipif(not BUILT_MODEL.exists(), reason=f"the pose model is not built: {BUILT_MODEL.name}")


def truth() -> dict[str, Any]:
    """The true joints, angles and events of the rendered batter."""
    return dict(json.loads((ROOT / "samples" / "batter_truth.json").read_text()))


def truly(key: str) -> Floats:
    """One true series of the batter, (n,): one value for each frame of the sample."""
    return np.array([frame[key] for frame in truth()["frames"]], dtype=float)


def corpus(name: str) -> Path:
    """The path of a real video; skips the test if the corpus is not installed."""
    path = CORPUS / name
    if not path.exists():
        pytest.skip(f"the corpus of real videos is not installed: {name}")
    return path
