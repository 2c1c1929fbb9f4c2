"""Writes the landmarks as a Parquet table: one row a sampled frame, NaN in frames without the athlete."""

from pathlib import Path
from typing import Any

import numpy as np
from arro3.core import Array, Table
from arro3.io import write_parquet

from services.analyzer.arrays import Flags, Floats
from services.analyzer.biomechanics.filtering import bridged, rejected, tidy
from services.analyzer.biomechanics.kinematics import elbow_angle, hip_angle, knee_angle
from services.analyzer.pose.landmarks import INDEX, LANDMARKS, Poses

ANGLES = {"knee": knee_angle, "hip": hip_angle, "elbow": elbow_angle}
Columns = dict[str, Floats | Flags]


def columns(poses: Poses) -> Columns:
    """Values by column name, (n,) each: seconds, degrees in the picture (180 is straight), pixels, shares 0..1."""
    tidied = tidy(poses)
    table: Columns = {
        "time_seconds": poses.times,
        "detected": poses.detected,
        "rejected": rejected(poses, tidied),
        "bridged": bridged(tidied),
    }
    for joint, angle in ANGLES.items():
        for side in ("left", "right"):
            table[f"{side}_{joint}_deg"] = angle(poses, side)
    for name in LANDMARKS:
        point = poses.point(name)
        table |= {f"{name}_x": point[:, 0], f"{name}_y": point[:, 1], f"{name}_visibility": poses.seen(name)}
        table[f"{name}_presence"] = poses.presence[:, INDEX[name]]
    return table


def write_frames(poses: Poses, out: Path) -> None:
    """Write `frames.parquet` to `out`."""
    arrays: dict[str, Any] = {
        name: Array.from_numpy(np.ascontiguousarray(values)) for name, values in columns(poses).items()
    }
    write_parquet(Table.from_pydict(arrays), str(out))


def records(poses: Poses) -> list[dict[str, object]]:
    """The same rows for JSON; landmarks by name as {x, y, visibility, presence}, None in frames without the athlete."""
    rows: list[dict[str, object]] = []
    table = columns(poses)
    angles = {name: values for name, values in table.items() if name.endswith("_deg")}
    for i, time in enumerate(poses.times):
        detected = bool(poses.detected[i])
        row: dict[str, object] = {"time_seconds": float(time), "detected": detected}
        row |= {flag: bool(table[flag][i]) for flag in ("rejected", "bridged")}
        row |= {name: float(values[i]) for name, values in angles.items()}
        row["landmarks"] = _landmarks(poses, i) if detected else None
        rows.append(row)
    return rows


def _landmarks(poses: Poses, i: int) -> dict[str, dict[str, float]]:
    """Landmarks of frame i, in tenths of a pixel: the model is no more exact, and the file is half as large."""

    return {
        name: {
            "x": round(float(poses.image[i, k, 0]), 1),
            "y": round(float(poses.image[i, k, 1]), 1),
            "visibility": round(float(poses.visibility[i, k]), 3),
            "presence": round(float(poses.presence[i, k]), 3),
        }
        for k, name in enumerate(LANDMARKS)
    }
