"""The files of an analysis, read back by other programs."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from services.analyzer.artifacts.frames_parquet import columns, records, write_frames
from services.analyzer.artifacts.overlay_video import Label, write_overlay
from services.analyzer.artifacts.results_json import plain, row_copy
from services.analyzer.pose.landmarks import INDEX, LANDMARKS, Poses, merge_poses
from services.analyzer.pose.skeleton import COLOURS, skeleton_at
from services.analyzer.settings import Limits
from services.analyzer.video.frames import Losses, pictures
from services.analyzer.video.probe import probe
from services.rules.limits import MAX_RESULTS_BYTES, results_bytes
from testing.data.clips import even, tag_matrix, write_clip
from testing.data.videos import ROOT, corpus

PARTS = ("x", "y", "visibility", "presence")
ANGLES = [f"{side}_{joint}_deg" for joint in ("knee", "hip", "elbow") for side in ("left", "right")]


def series(times: list[float], x: float = 10.0, gaps: tuple[int, ...] = ()) -> Poses:
    """Landmark k at (x + k, 2 k) pixels of 160 x 64; the frames in `gaps` have no athlete."""
    n = len(times)
    image = np.stack([np.array([(x + k, 2.0 * k) for k in range(33)])] * n)
    visibility = np.full((n, 33), 0.9)
    image[list(gaps)] = np.nan
    visibility[list(gaps)] = np.nan
    return Poses(np.array(times), image, np.zeros((n, 33, 3)), visibility, visibility / 2, np.ones(n), 160, 64)


def test_the_table_has_the_contract_s_columns_and_a_row_a_sample(tmp_path: Path) -> None:
    """Read by another Parquet library: names, order of time, booleans, and NaN in frames without the athlete."""
    write_frames(series([0.0, 0.1, 0.2], gaps=(1,)), tmp_path / "frames.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "frames.parquet")
    landmark_columns = [f"{name}_{part}" for name in LANDMARKS for part in PARTS]
    marks = {"detected", "rejected", "bridged"}
    assert set(table.column_names) == {"time_seconds", *marks, *ANGLES, *landmark_columns}
    assert table["time_seconds"].to_pylist() == pytest.approx([0.0, 0.1, 0.2])
    assert table["detected"].to_pylist() == [True, False, True]
    assert table["nose_x"].to_numpy() == pytest.approx([10, np.nan, 10], nan_ok=True)
    assert table["left_knee_y"].to_numpy() == pytest.approx([50, np.nan, 50], nan_ok=True)


def test_a_straight_leg_is_180_degrees_and_a_right_angle_90(tmp_path: Path) -> None:
    """Angles in the table are measured in pixels, not in shares of the sides."""
    poses = series([0.0])
    for name, point in {"left_hip": (50, 10), "left_knee": (50, 30), "left_ankle": (50, 60)}.items():
        poses.image[0, INDEX[name]] = point
    for name, point in {"right_hip": (50, 10), "right_knee": (50, 30), "right_ankle": (90, 30)}.items():
        poses.image[0, INDEX[name]] = point
    write_frames(poses, tmp_path / "frames.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "frames.parquet")
    assert table["left_knee_deg"].to_pylist() == pytest.approx([180])
    assert table["right_knee_deg"].to_pylist() == pytest.approx([90])


def test_records_are_null_without_the_athlete() -> None:
    """The frames of results.json have null landmarks without the athlete, and are valid JSON."""
    rows = plain(records(series([0.0, 0.1], gaps=(1,))))
    assert rows[0]["landmarks"]["nose"] == {"x": 10.0, "y": 0.0, "visibility": 0.9, "presence": 0.45}
    assert rows[1]["landmarks"] is None
    assert rows[1]["left_knee_deg"] is None
    json.dumps(rows, allow_nan=False)


def test_every_column_of_the_table_is_documented() -> None:
    """docs/files.md names each column and no other."""
    section = (ROOT / "docs" / "files.md").read_text().partition("## frames.parquet")[2]
    named = set(re.findall(r"`(\w+)`", section))
    landmarks = {f"{name}_{part}" for name in LANDMARKS for part in PARTS}
    assert named - set(LANDMARKS) | landmarks == set(columns(series([0.0])))
    assert set(LANDMARKS) <= named


def test_values_without_a_json_form_become_null() -> None:
    """NaN and infinities of Python and NumPy, at any depth."""
    value = {"a": [float("nan"), np.float64("inf"), np.int64(3)], "b": (np.bool_(True), np.array([1.5, np.nan]))}
    assert plain(value) == {"a": [None, None, 3], "b": [True, [1.5, None]]}


def test_the_row_s_copy_stays_small_and_leaves_frames_to_the_file() -> None:
    """With any amount of evidence, the database's copy is under 64 KB and keeps every value."""
    evidence = [{"time_seconds": k / 30, "value": k / 7} for k in range(5000)]
    results = {
        "pose": {"pose_summary": {"total_frames": 9}, "frames": [{}] * 1000},
        "metrics": {"head_stability_score": {"value": 0.5, "evidence": evidence}},
        "findings": {},
        "report": {},
    }
    row = row_copy(results)
    assert results_bytes(row) <= MAX_RESULTS_BYTES
    assert set(row) == {"pose", "metrics", "findings", "report"}
    assert set(row["pose"]) == {"pose_summary"}
    assert row["metrics"]["head_stability_score"]["value"] == 0.5
    assert len(evidence) == 5000


def assert_same_film(source: Path, out: Path) -> None:
    """Assert that `out` has the times, the length and the upright shape of `source`, in a format of every browser."""
    film, again = probe(source, Limits()), probe(out, Limits())
    assert (again.codec, again.pixel_format, again.rotation_degrees, again.mirrored) == ("h264", "yuv420p", 0, False)
    shrink = min(1.0, 960 / max(film.width, film.height))
    assert (again.width, again.height) == pytest.approx((film.width * shrink, film.height * shrink), abs=2)
    assert again.colors[1:2] == film.colors[1:2]
    assert again.times == pytest.approx(film.times, abs=1e-5)
    assert again.end_seconds == pytest.approx(film.end_seconds, abs=1e-3)
    content = out.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def overlaid(source: Path, out: Path, labels: tuple[Label, ...] = ()) -> list[float]:
    """Write the overlay of a video of a person who stands still; returns the reported progress."""
    film, reported = probe(source, Limits()), list[float]()
    poses = replace(series(film.times.tolist()), width=film.width, height=film.height)
    write_overlay(film, poses, np.arange(len(film.times)), Limits(), out, reported.append, labels)
    return reported


def test_a_long_session_fits_the_row_and_states_the_shortened_length() -> None:
    """The lists of 200 balls are shortened, and `shortened_to` states their length."""
    balls = [{"time_seconds": 8.0 * k, "values": {f"measure_{n}": k / 7 for n in range(13)}} for k in range(200)]
    measures = {"stride": {"value": 0.3, "evidence": [{"time_seconds": k / 3, "value": k / 7} for k in range(3000)]}}
    summary = {"total_frames": 9, "repetitions": balls, "measures": measures}
    row = row_copy({"pose": {"pose_summary": summary}, "metrics": {}, "findings": {}, "report": {}})
    assert results_bytes(row) <= MAX_RESULTS_BYTES
    kept = row["pose"]["pose_summary"]
    assert len(kept["repetitions"]) == kept["shortened_to"] > 0
    assert len(balls) == 200
    assert "shortened_to" not in summary


@pytest.mark.parametrize("turn", range(4))
def test_the_overlay_is_upright_h264_at_true_times(tmp_path: Path, turn: int) -> None:
    """A gap in the times and a long last frame are kept, and the rotation tag is applied."""
    source = write_clip(tmp_path / "phone.mp4", [0.0, 0.033, 0.2, 0.233, 0.5])
    tag_matrix(source, [(1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0)][turn])
    reported = overlaid(source, tmp_path / "overlay.mp4")
    assert_same_film(source, tmp_path / "overlay.mp4")
    assert reported == sorted(reported)


@pytest.mark.parametrize(
    ("codec", "name", "pixels"),
    [
        ("libx264", "clip.mov", "yuv422p"),
        ("libx265", "clip.mkv", "yuv420p10le"),
        ("libvpx-vp9", "clip.webm", "yuv420p"),
    ],
)
def test_an_overlay_has_the_times_of_every_codec(tmp_path: Path, codec: str, name: str, pixels: str) -> None:
    """For every clock of a container, in ten bits or eight."""
    source = write_clip(tmp_path / name, [0.0, 0.033, 0.067, 0.2, 0.233], codec=codec, pixels=pixels)
    overlaid(source, tmp_path / "overlay.mp4")
    assert_same_film(source, tmp_path / "overlay.mp4")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["bowling/bowl_01_540p.mp4", "bowling/bowl_01_2160p.mp4", "hard/rot90_tag.mp4", "hard/vfr_dropped.mp4",
     "hard/hevc.mp4", "golf/iphone_golf_rot_vfr.mov", "walk/walk_vp9.mp4", "pose2sim/cam01.mp4"],
)  # fmt: skip
def test_an_overlay_has_the_times_and_the_shape_of_a_real_film(tmp_path: Path, name: str) -> None:
    """Videos of phones, with rotation tags, dropped frames and four codecs."""
    overlaid(corpus(name), tmp_path / "overlay.mp4")
    assert_same_film(corpus(name), tmp_path / "overlay.mp4")


def test_the_skeleton_lies_where_the_landmarks_are_and_leaves_the_rest_alone(tmp_path: Path) -> None:
    """Left and right have their own colours on the joints; an event's label begins at its time."""
    source = write_clip(tmp_path / "clip.mp4", even(10, 12), size=(640, 480))
    film = probe(source, Limits())
    poses = replace(series(film.times.tolist()), width=640, height=480)
    poses.image[:, [INDEX["left_hip"], INDEX["left_knee"], INDEX["left_ankle"]]] = [(300, 200), (300, 300), (400, 300)]
    poses.image[:, [INDEX["right_hip"], INDEX["right_knee"]]] = [(500, 200), (500, 300)]
    out = tmp_path / "overlay.mp4"
    write_overlay(film, poses, np.arange(12), Limits(), out, lambda _: None, [Label(0.4, "Release", 0.4)])
    before, after = ([p.rgb.astype(int) for p in pictures(probe(path, Limits()), np.arange(12), Limits(), Losses())]
                     for path in (source, out))  # fmt: skip
    for x, side in ((300, "left"), (500, "right")):
        assert np.abs(after[2][250, x] - COLOURS[side]).max() < 60
    assert np.abs(after[2][400:, 100:250] - before[2][400:, 100:250]).max() < 12
    label = [float(np.abs(shown - after[0])[20:60, 80:160].mean()) for shown in after]
    assert max(label[:4] + label[10:]) < 5 < 15 < min(label[4:10])


def test_an_overlay_of_odd_size_is_written_all_the_same(tmp_path: Path) -> None:
    """H.264 needs even sides, so the last row or column is cut."""
    video = probe(write_clip(tmp_path / "clip.mp4", even(30, 3), size=(1282, 722)), Limits())
    write_overlay(video, series(even(30, 3)), np.arange(3), Limits(), tmp_path / "overlay.mp4", lambda _: None)
    again = probe(tmp_path / "overlay.mp4", Limits())
    assert again.width % 2 == again.height % 2 == 0


@pytest.mark.parametrize("transfer", [16, 18])
def test_an_overlay_of_high_dynamic_range_is_tagged_as_what_it_is(transfer: int, tmp_path: Path) -> None:
    """Eight bits in the colours of BT.709, not HLG or PQ."""
    color = {"color_trc": transfer, "color_primaries": 9, "colorspace": 9}
    options = {"x265-params": "log-level=none"}
    clip, times = tmp_path / "clip.mov", even(30, 3)
    path = write_clip(clip, times, codec="libx265", pixels="yuv420p10le", color=color, options=options)
    video = probe(path, Limits())
    write_overlay(video, series(even(30, 3)), np.arange(3), Limits(), tmp_path / "overlay.mp4", lambda _: None)
    overlay = probe(tmp_path / "overlay.mp4", Limits())
    assert (video.hdr, overlay.hdr) == ({16: "pq", 18: "hlg"}[transfer], None)
    assert (overlay.pixel_format, overlay.colors) == ("yuv420p", (1, 1, 1))


def test_between_two_posed_frames_the_skeleton_moves_evenly() -> None:
    """Half-way in time is half-way in the picture; a long gap has no skeleton."""
    poses = series([0.0, 0.1, 1.0])
    poses.image[1] += 10
    assert skeleton_at(poses, 0.05)[0][0].tolist() == [15, 5]
    assert skeleton_at(poses, 0.1)[0][0].tolist() == [20, 10]
    assert np.isnan(skeleton_at(poses, 0.5)[0]).all()
    assert np.isnan(skeleton_at(poses, 2.0)[0]).all()
    assert np.isnan(skeleton_at(series([0.0, 0.1], gaps=(1,)), 0.05)[0]).all()


def test_a_close_up_replaces_the_sampled_frames_it_covers() -> None:
    """Each time once, in order, with the close-up's landmarks inside its window."""
    whole, near = series([0.0, 0.1, 0.2, 0.3]), series([0.1, 0.13, 0.17, 0.2], x=50)
    both = merge_poses(whole, [near])
    assert both.times.tolist() == [0.0, 0.1, 0.13, 0.17, 0.2, 0.3]
    assert both.image[:, 0, 0].tolist() == [10, 50, 50, 50, 50, 10]


def test_every_frame_of_a_clip_can_be_read_back(tmp_path: Path) -> None:
    """`write_clip`, which other tests use, writes the given number of frames."""
    video = probe(write_clip(tmp_path / "clip.mp4", even(10, 4)), Limits())
    assert len(list(pictures(video, np.arange(4), Limits(), Losses()))) == 4
