"""The facts about a file that are read before it is analysed."""

import wave
from pathlib import Path

import av
import numpy as np
import pytest

from services.analyzer.errors import BadInput
from services.analyzer.settings import Limits
from services.analyzer.video.probe import Video, probe
from testing.data.clips import HEIGHT, WIDTH, even, remux, tag_capture_fps, tag_rotation, write_clip


def refused(path: Path, limits: Limits | None = None) -> BadInput:
    with pytest.raises(BadInput) as caught:
        probe(path, limits or Limits())
    assert caught.value.exit_status == 65
    return caught.value


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4", even(25, 50))


def test_a_plain_video_is_described_as_it_was_written(clip: Path) -> None:
    """50 frames at 25 a second are 2 s of H.264."""
    video = probe(clip, Limits())
    assert (video.codec, video.width, video.height, video.rotation_degrees) == ("h264", WIDTH, HEIGHT, 0)
    assert video.times == pytest.approx(even(25, 50), abs=1e-4)
    assert video.fps == pytest.approx(25)
    assert video.duration_seconds == pytest.approx(2.0, abs=1e-3)
    assert video.damage is None
    assert video.size_bytes == clip.stat().st_size


def test_a_rotation_tag_turns_width_and_height(clip: Path) -> None:
    """A phone stores its upright video sideways; the reported size is upright."""
    video = probe(tag_rotation(clip), Limits())
    assert (video.width, video.height, video.rotation_degrees) == (HEIGHT, WIDTH, 90)


def test_times_come_from_the_stamps_not_from_the_declared_rate(tmp_path: Path) -> None:
    """Dropped frames leave gaps in the times, and the true rate is the lower one."""
    times = [t for k, t in enumerate(even(30, 61)) if k % 5]
    video = probe(write_clip(tmp_path / "vfr.mp4", times), Limits())
    assert video.times == pytest.approx(np.array(times) - times[0], abs=1e-4)
    assert video.fps == pytest.approx((len(times) - 1) / (times[-1] - times[0]), rel=1e-3)


def test_times_count_from_the_first_frame(tmp_path: Path) -> None:
    """A stream that begins at 5 s has its first frame at 0 s."""
    video = probe(write_clip(tmp_path / "late.mkv", [5 + t for t in even(10, 20)]), Limits())
    assert video.times[0] == 0
    assert video.times[-1] == pytest.approx(1.9, abs=2e-3)


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "libx264"), ("a.webm", "libvpx-vp9"), ("a.ts", "libx264")])
def test_other_containers_are_read_too(tmp_path: Path, name: str, codec: str) -> None:
    """Matroska, WebM and MPEG-TS describe the same ten frames."""
    path = tmp_path / name
    video = probe(write_clip(path, even(30, 10), codec=codec), Limits())
    assert len(video.times) == 10


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"", "FILE_EMPTY"), (b"once upon a time " * 400, "NOT_A_VIDEO"), (b"\x00" * 5000, "NOT_A_VIDEO")],
)
def test_a_file_that_is_no_video_is_refused_by_name(tmp_path: Path, content: bytes, code: str) -> None:
    """The message names the file, and the code names the fault."""
    path = tmp_path / "holiday.mp4"
    path.write_bytes(content)
    fault = refused(path)
    assert fault.code == code
    assert "holiday.mp4" in fault.message


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    """A missing file and a folder are rejected."""
    assert refused(tmp_path / "gone.mp4").code == "FILE_MISSING"
    assert refused(tmp_path).code == "FILE_MISSING"


def test_a_playlist_cannot_make_us_open_other_files(tmp_path: Path, clip: Path) -> None:
    """An HLS playlist that points at a valid video is rejected."""
    path = tmp_path / "list.mp4"
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{clip}\n#EXT-X-ENDLIST\n")
    assert refused(path).code == "NOT_A_VIDEO"


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    """A file with only an audio stream is rejected."""
    path = tmp_path / "sound.mkv"
    _write_sound(path)
    assert refused(path).code == "NO_VIDEO_STREAM"


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (Limits(max_video_bytes=1000), "FILE_TOO_LARGE"),
        (Limits(max_video_pixels=WIDTH * HEIGHT - 1), "TOO_MANY_PIXELS"),
        (Limits(max_video_seconds=1.5), "TOO_LONG"),
        (Limits(max_video_frames=49), "TOO_MANY_FRAMES"),
    ],
)
def test_every_limit_is_held(clip: Path, limits: Limits, code: str) -> None:
    """Each limit on bytes, pixels, seconds and frames has a code of its own."""
    assert refused(clip, limits).code == code


def test_a_file_cut_off_in_the_middle_is_called_damaged(tmp_path: Path) -> None:
    """A cut file with its index in front still opens, and the missing time is reported."""
    path = write_clip(tmp_path / "whole.mp4", even(30, 90))
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(faststart(path).read_bytes()[: int(path.stat().st_size * 0.6)])
    video = probe(cut, Limits())
    assert len(video.pts) < 90
    assert video.damage
    assert "of the 3.00 s" in video.damage


def test_a_file_without_its_index_is_refused(tmp_path: Path) -> None:
    """An MP4 has its index at the end, so a cut one cannot be opened."""
    path = write_clip(tmp_path / "whole.mp4", even(30, 90))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    assert refused(path).code == "NOT_A_VIDEO"


def faststart(path: Path) -> Path:
    """The same video with its index in front."""
    return remux(path, path.with_suffix(".front.mp4"), movflags="faststart")


def _write_sound(path: Path) -> None:
    with wave.open(str(path.with_suffix(".wav")), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(b"\x00\x01" * 8000)
    with av.open(str(path.with_suffix(".wav"))) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)


def test_a_video_knows_nothing_of_where_it_lies(clip: Path) -> None:
    """Messages contain the file's name, not its folder."""
    assert isinstance(probe(clip, Limits()), Video)
    assert str(clip.parent) not in refused(clip, Limits(max_video_frames=1)).message


@pytest.mark.parametrize(
    ("tag", "stated", "slowdown"),
    [
        ("120.000000", 0, 4.0),
        ("30", 0, 1.0),
        ("29.4", 0, 1.0),
        ("7.5", 0, 0.25),
        (None, 240, 8.0),
        ("120", 60, 2.0),
        ("120", 30, 1.0),
        ("nonsense", 0, 1.0),
        ("nan", 0, 1.0),
        ("1e9", 0, 1.0),
        (None, 0, 1.0),
    ],
)
def test_a_film_is_timed_by_the_rate_at_which_the_camera_recorded(
    tmp_path: Path, tag: str | None, stated: float, slowdown: float
) -> None:
    """Android's tag gives it, and the client overrules the tag. All times are real; the file's length is its own."""
    clip = write_clip(tmp_path / "clip.mp4", even(30, 61))
    tagged = tag_capture_fps(clip, tag) if tag else clip
    video = probe(tagged, Limits(), stated)
    assert video.slowdown == pytest.approx(slowdown, rel=1e-3)
    assert video.times == pytest.approx(np.array(even(30, 61)) / slowdown, abs=1e-4)
    assert video.fps == pytest.approx(30 * slowdown, rel=1e-3)
    assert video.end_seconds == pytest.approx(61 / 30 / slowdown, abs=2e-3)
    assert video.file_seconds == pytest.approx(61 / 30, abs=2e-3)
    assert video.damage is None


def test_the_limit_of_length_counts_the_files_own_seconds(tmp_path: Path) -> None:
    """A stated rate gives no one a longer film."""
    clip = write_clip(tmp_path / "clip.mp4", even(30, 61))
    with pytest.raises(BadInput, match="lasts 2 seconds; at most 1 second"):
        probe(clip, Limits(max_video_seconds=1), 240)
