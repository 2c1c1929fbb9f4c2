"""Builds a pose model from the two networks that an older MediaPipe wheel carries: the same bytes anywhere, offline.

    WHEEL ─▶ pose_detection.tflite     + how its pixels are scaled ─▶ pose_detector.tflite           ┐
          └▶ pose_landmark_full.tflite + how its pixels are scaled ─▶ pose_landmarks_detector.tflite ┴▶ OUT, a zip

LANDMARKS is a pose_landmark_lite.tflite or pose_landmark_heavy.tflite to put in the place of the wheel's full one.

Usage: python scripts/build_model.py WHEEL OUT [LANDMARKS]
"""

import hashlib
import io
import sys
import zipfile
from pathlib import Path

import flatbuffers  # type: ignore[import-untyped]
from mediapipe.tasks.metadata import metadata_schema_py_generated as notes
from mediapipe.tasks.metadata import schema_py_generated as network

from services.analyzer.pose.model import MODELS

# MediaPipe looks the networks up by these names. Mean and deviation map a pixel of 0..255 to what each was trained on.
LANDMARKS = "mediapipe/modules/pose_landmark/pose_landmark_full.tflite"
NETWORKS = (
    ("mediapipe/modules/pose_detection/pose_detection.tflite", "pose_detector.tflite", 127.5, 127.5),
    (LANDMARKS, "pose_landmarks_detector.tflite", 0.0, 255.0),
)
# A zip entry remembers a date; this is the earliest that the format can write.
THE_BEGINNING = (1980, 1, 1, 0, 0, 0)


def scaling(mean: float, deviation: float) -> bytes:
    """The metadata that tells MediaPipe to feed (pixel - mean) / deviation to a network with one input."""
    options = notes.NormalizationOptionsT()
    options.mean, options.std = [mean], [deviation]
    unit = notes.ProcessUnitT()
    unit.optionsType, unit.options = notes.ProcessUnitOptions.NormalizationOptions, options
    tensor = notes.TensorMetadataT()
    tensor.name, tensor.processUnits = "image", [unit]
    graph = notes.SubGraphMetadataT()
    graph.inputTensorMetadata = [tensor]
    model = notes.ModelMetadataT()
    model.subgraphMetadata = [graph]
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"M001")
    return bytes(builder.Output())


def annotate(tflite: bytes, metadata: bytes) -> bytes:
    """The network with `metadata` attached under the name by which MediaPipe looks for it."""
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
    """The .task file's content: both networks, stored and never compressed, because MediaPipe maps them into memory."""
    content = io.BytesIO()
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as task:
        for inside, name, mean, deviation in NETWORKS:
            raw = landmarks.read_bytes() if landmarks and inside == LANDMARKS else source.read(inside)
            tflite = annotate(raw, scaling(mean, deviation))
            task.writestr(zipfile.ZipInfo(name, THE_BEGINNING), tflite)
    return content.getvalue()


def main(wheel: str, out: str, landmarks: str = "") -> None:
    """Write the model, or stop with a sentence where its bytes are not the pinned ones."""
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
