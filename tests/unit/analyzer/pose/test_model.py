"""The analyzer uses only a pinned model file."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from scripts import build_model
from services.analyzer.errors import ModelFault
from services.analyzer.pose.model import MODELS, verify_model
from services.analyzer.settings import BUILT_MODEL
from services.naming import POSE_MODEL
from testing.data.videos import needs_model


@needs_model
def test_the_built_model_is_the_pinned_one() -> None:
    """The analyzer accepts the file that the build wrote."""
    assert verify_model(BUILT_MODEL) == BUILT_MODEL.stem == POSE_MODEL


@needs_model
def test_the_networks_lie_uncompressed_and_undated() -> None:
    """MediaPipe rejects compressed networks; a date would change the bytes from day to day."""
    with zipfile.ZipFile(BUILT_MODEL) as task:
        assert task.namelist() == ["pose_detector.tflite", "pose_landmarks_detector.tflite"]
        for entry in task.infolist():
            assert entry.compress_type == zipfile.ZIP_STORED
            assert entry.date_time == (1980, 1, 1, 0, 0, 0)


def test_the_model_builds_to_the_same_bytes_again() -> None:
    """The wheel, if it is installed, gives the pinned SHA-256."""
    wheel = next(BUILT_MODEL.parent.glob("mediapipe-*.whl"), None)
    if wheel is None:
        pytest.skip("the wheel that contains the networks is not installed")
    assert hashlib.sha256(build_model.bundle(wheel)).hexdigest() == MODELS[BUILT_MODEL.stem]


def test_a_wheel_with_other_networks_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A different result stops the build with a message that names both digests."""
    monkeypatch.setattr(build_model, "bundle", lambda *_: b"something else")
    with pytest.raises(SystemExit, match=MODELS["pose_landmarker_lite"]):
        build_model.main("some.whl", str(tmp_path / "pose_landmarker_lite.task"))
    assert not list(tmp_path.iterdir())


def test_a_missing_model_says_so(tmp_path: Path) -> None:
    """Operators search for this message. Its code is IMAGE, because no retry helps before a repair."""
    with pytest.raises(ModelFault, match="Processing failed: MediaPipe model not initialized") as caught:
        verify_model(tmp_path / "none.task")
    assert caught.value.code == "IMAGE"
    assert caught.value.exit_status == 70


def test_another_model_is_refused(tmp_path: Path) -> None:
    """Any other content is rejected."""
    other = tmp_path / "other.task"
    other.write_bytes(b"not a model")
    with pytest.raises(ModelFault, match="pinned"):
        verify_model(other)
