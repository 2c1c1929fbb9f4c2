"""Builds a pose model from the two networks in an older MediaPipe wheel: reproducible bytes, without a download.

    WHEEL ─▶ pose_detection.tflite     + pixel normalization ─▶ pose_detector.tflite           ┐
          └▶ pose_landmark_full.tflite + pixel normalization ─▶ pose_landmarks_detector.tflite ┴▶ OUT, a zip

LANDMARKS, a pose_landmark_lite.tflite or pose_landmark_heavy.tflite, replaces the wheel's full network.

Usage: python scripts/build_model.py WHEEL OUT [LANDMARKS]
"""

import hashlib
import io
import sys
import zipfile
from pathlib import Path

import flatbuffers  # type: ignore[import-untyped]
from mediapipe.tasks.metadata import metadata_schema_py_generated as metadata_schema
from mediapipe.tasks.metadata import schema_py_generated as network

from services.analyzer.pose.model import MODELS

# MediaPipe finds the networks by these names. Mean and deviation normalize pixels of 0..255 as in training.
LANDMARKS = "mediapipe/modules/pose_landmark/pose_landmark_full.tflite"
NETWORKS = (
    ("mediapipe/modules/pose_detection/pose_detection.tflite", "pose_detector.tflite", 127.5, 127.5),
    (LANDMARKS, "pose_landmarks_detector.tflite", 0.0, 255.0),
)
# The earliest date that a zip entry can hold.
EARLIEST_DATE = (1980, 1, 1, 0, 0, 0)


def normalization(mean: float, deviation: float) -> bytes:
    """TFLite metadata for a network with one input: MediaPipe feeds it (pixel - mean) / deviation."""
    options = metadata_schema.NormalizationOptionsT()
    options.mean, options.std = [mean], [deviation]
    unit = metadata_schema.ProcessUnitT()
    unit.optionsType, unit.options = metadata_schema.ProcessUnitOptions.NormalizationOptions, options
    tensor = metadata_schema.TensorMetadataT()
    tensor.name, tensor.processUnits = "image", [unit]
    graph = metadata_schema.SubGraphMetadataT()
    graph.inputTensorMetadata = [tensor]
    model = metadata_schema.ModelMetadataT()
    model.subgraphMetadata = [graph]
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"M001")
    return bytes(builder.Output())


def annotate(tflite: bytes, metadata: bytes) -> bytes:
    """The network with `metadata` attached under the name that MediaPipe expects."""
    model = network.ModelT.InitFromObj(network.Model.GetRootAsModel(tflite, 0))
    buffer = network.BufferT()
    buffer.data = metadata
    model.buffers.append(buffer)
    entry = network.MetadataT()
    entry.name, entry.buffer = "TFLITE_METADATA", len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def bundle(wheel: Path, landmarks: Path | None = None) -> bytes:
    """The content of the .task file: both networks, uncompressed because MediaPipe maps them into memory."""
    content = io.BytesIO()
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as task:
        for inside, name, mean, deviation in NETWORKS:
            raw = landmarks.read_bytes() if landmarks and inside == LANDMARKS else source.read(inside)
            tflite = annotate(raw, normalization(mean, deviation))
            task.writestr(zipfile.ZipInfo(name, EARLIEST_DATE), tflite)
    return content.getvalue()


def main(wheel: str, out: str, landmarks: str = "") -> None:
    """Writes the model, or exits with a sentence if its SHA-256 differs from the pinned one."""
    content = bundle(Path(wheel), Path(landmarks) if landmarks else None)
    digest, pinned = hashlib.sha256(content).hexdigest(), MODELS.get(Path(out).stem)
    if digest != pinned:
        sys.exit(f"{out} not written: the model built from {wheel} has SHA-256 {digest}, and {pinned} is pinned")
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    Path(out).write_bytes(content)
    print(f"{out}: {len(content):,} bytes, SHA-256 {digest}")


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit("usage: python scripts/build_model.py WHEEL OUT [LANDMARKS]")
    main(*sys.argv[1:])
