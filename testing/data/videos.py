"""The videos that tests read: the sample that ships with the project, and real ones where they are at hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.analyzer.settings import BUILT_MODEL

ROOT = Path(__file__).parents[2]
BATTER = ROOT / "samples" / "batter.mp4"
CORPUS = ROOT.parent / "shared" / "corpus"

needs_model = pytest.mark.skipif(not BUILT_MODEL.exists(), reason=f"the pose model is not built: {BUILT_MODEL.name}")


def truth() -> dict[str, Any]:
    """What the rendered batter really does."""
    return dict(json.loads((ROOT / "samples" / "batter_truth.json").read_text()))


def truly(key: str) -> np.ndarray:
    """One true series of the batter, a value a frame of the sample."""
    return np.array([frame[key] for frame in truth()["frames"]], dtype=float)


def corpus(name: str) -> Path:
    """A real video, or the test is skipped."""
    path = CORPUS / name
    if not path.exists():
        pytest.skip(f"the corpus of real videos is not at hand: {name}")
    return path
