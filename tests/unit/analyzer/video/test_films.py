"""One row for each kind of film that a coach may have: the right frames and times, and a sentence where one is due."""

import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from services.analyzer.biomechanics.measurement import measure
from services.analyzer.errors import BadInput
from services.analyzer.film_notes import describe_film, film_notes
from services.analyzer.settings import Limits
from services.analyzer.video.frames import Losses, pictures
from services.analyzer.video.probe import Video, probe
from services.containers import header
from testing.data.clips import HEIGHT, WIDTH, even, number_of, picture, remux, set_edits, write_clip
from testing.data.field_pictures import write_fields
from testing.data.motions import stroke

NO_REORDERING = {"bf": "0", "g": "10"}


@dataclass(frozen=True)
class Film:
    """What a film of one kind shows: seconds, frames, and a word of the note; no damage."""

    write: Callable[[Path], Path]
    seconds: float
    frames: int
    note: str = ""


def joined(suffix: str, codec: str = "libx264") -> Callable[[Path], Path]:
    """Two recordings of one second, byte by byte."""

    def write(folder: Path) -> Path:
        one = write_clip(folder / f"one.{suffix}", even(30, 30), codec=codec, options={"g": "10"})
        path = folder / f"both.{suffix}"
        path.write_bytes(2 * one.read_bytes())
        return path

    return write


def write_old(path: Path, codec: str, pixels: str, options: dict[str, str] | None = None) -> Path:
    """A recording of one second in a container of old cameras."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=30, options={"g": "10", "qmin": "1", "qmax": "2"} | (options or {}))
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixels
        for number in range(30):
            frame = VideoFrame.from_ndarray(picture(number), format="rgb24")
            out.mux(stream.encode(frame.reformat(format=pixels)))
        out.mux(stream.encode())
    return path


def joined_old(suffix: str, codec: str, pixels: str) -> Callable[[Path], Path]:
    """Two such recordings, byte by byte."""

    def write(folder: Path) -> Path:
        one, both = write_old(folder / f"one.{suffix}", codec, pixels), folder / f"both.{suffix}"
        both.write_bytes(2 * one.read_bytes())
        return both

    return write


def plain_mpeg(folder: Path) -> Path:
    return write_old(folder / "one.mpg", "mpeg2video", "yuv420p")


def joined_later(folder: Path) -> Path:
    """Two recordings of one second, of which the second one's clock is an hour ahead."""
    times = even(30, 30)
    parts = [write_clip(folder / "1.ts", times), write_clip(folder / "2.ts", [time + 3600 for time in times])]
    path = folder / "both.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def joined_cameras(folder: Path) -> Path:
    """Two recordings of one second, whose cameras number their streams differently."""
    one = write_clip(folder / "one.ts", even(30, 30))
    other = remux(one, folder / "other.ts", mpegts_start_pid="512")
    path = folder / "both.ts"
    path.write_bytes(one.read_bytes() + other.read_bytes())
    return path


def gap(suffix: str) -> Callable[[Path], Path]:
    """Two seconds and a gap of 20 s between them, as of a screen where nothing moves."""
    times = [time + 20 * (time > 1) for time in even(30, 60)]
    return lambda folder: write_clip(folder / f"gap.{suffix}", times, options={"bf": "2", "g": "60"})


def live(suffix: str) -> Callable[[Path], Path]:
    """A recording without a length, as a browser writes it."""

    def write(folder: Path) -> Path:
        return remux(plain("clip.mkv")(folder), folder / f"live.{suffix}", live="1")

    return write


def trimmed_fragments(folder: Path) -> Path:
    """Fragments with an edit list that begins after half a second and lasts to their end."""
    film, path = write_clip(folder / "film.mp4", even(30, 60), options={"bf": "2", "g": "12"}), folder / "fragments.mp4"
    options = {"movflags": "frag_keyframe+empty_moov+delay_moov"}
    with av.open(str(film)) as source, av.open(str(path), "w", options=options) as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None and packet.pts is not None and packet.time_base is not None:
                packet.pts -= round(0.5 / packet.time_base)
                packet.dts -= round(0.5 / packet.time_base)
                packet.stream = stream
                out.mux(packet)
    return path


def fields(suffix: str) -> Callable[[Path], Path]:
    return lambda folder: write_fields(folder / f"fields.{suffix}", 12, folder / "template.mp4")


def edited(*edits: tuple[float, float | None, float], fps: float = 30) -> Callable[[Path], Path]:
    """Two seconds with an edit list."""
    return lambda folder: set_edits(
        write_clip(folder / "clip.mp4", even(fps, int(2 * fps)), options={"g": "12"}), edits
    )


def uneven_and_trimmed(folder: Path) -> Path:
    times = [time for k, time in enumerate(even(30, 60)) if k % 5 and not 40 < k < 46]
    return set_edits(write_clip(folder / "clip.mp4", times, options={"g": "12"}), [(1.5, 0.25, 1)])


def turned(suffix: str, *, back: bool = False) -> Callable[[Path], Path]:
    """One stream, whose second part is an upright picture of 64 x 160. back: a third part is as the first."""

    def write(folder: Path) -> Path:
        path = folder / f"turned.{suffix}"
        upright = {"size": (HEIGHT, WIDTH), "options": NO_REORDERING}
        parts = [write_clip(folder / "wide.ts", even(30, 30), options=NO_REORDERING),
                 write_clip(folder / "tall.ts", even(30, 30), **upright)]  # type: ignore[arg-type] # fmt: skip
        with av.open(str(path), "w") as out:
            stream = None
            for number, part in enumerate([*parts, parts[0]] if back else parts):
                with av.open(str(part)) as source:
                    stream = stream or out.add_stream_from_template(source.streams.video[0])
                    begins = source.streams.video[0].start_time or 0
                    for packet in source.demux(video=0):
                        if packet.pts is not None and packet.dts is not None:
                            packet.pts += 90_000 * number - begins
                            packet.dts += 90_000 * number - begins
                            packet.stream = stream
                            out.mux(packet)
        return path

    return write


def interlaced(folder: Path) -> Path:
    """Each frame holds pictures 2k and 2k + 1 in alternate lines, as a camcorder stores 60 pictures a second.

    The encoder puts the lower field first.
    """
    path = folder / "camcorder.MTS"
    with av.open(str(path), "w", format="mpegts") as out:
        options = {"crf": "10", "flags": "+ildct+ilme", "bf": "0", "g": "10"}
        stream = out.add_stream("libx264", rate=30, options=options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(30):
            woven = picture(2 * number + 1)
            woven[1::2] = picture(2 * number)[1::2]
            frame = VideoFrame.from_ndarray(woven, format="rgb24").reformat(format="yuv420p")
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def tracks(suffix: str, pictures_before: int = 30) -> Callable[[Path], Path]:
    """A larger thumbnail track first, then the film. A cover of one picture is as much a default track as the film."""

    def write(folder: Path) -> Path:
        film = write_clip(folder / "film.mp4", even(30, 30), options=NO_REORDERING)
        times = even(30, pictures_before)
        thumbnail = write_clip(folder / "thumbnail.mp4", times, size=(320, 128), options=NO_REORDERING)
        path = folder / f"two.{suffix}"
        with av.open(str(thumbnail)) as one, av.open(str(film)) as two, av.open(str(path), "w") as out:
            streams = [out.add_stream_from_template(source.streams.video[0]) for source in (one, two)]
            streams[0].disposition = Disposition.default if pictures_before == 1 else Disposition(0)
            streams[1].disposition = Disposition.default
            packets = [(p, s) for source, s in ((one, streams[0]), (two, streams[1])) for p in source.demux(video=0)]
            timed = [pair for pair in packets if pair[0].dts is not None]
            for packet, stream in sorted(timed, key=lambda pair: float((pair[0].dts or 0) * pair[0].time_base)):
                packet.stream = stream
                out.mux(packet)
        return path

    return write


def late(suffix: str) -> Callable[[Path], Path]:
    """Sound from 0 s on, pictures from 1.5 s on."""

    def write(folder: Path) -> Path:
        film = write_clip(folder / "film.mp4", even(30, 30), options=NO_REORDERING)
        path = folder / f"late.{suffix}"
        with av.open(str(film)) as source, av.open(str(path), "w") as out:
            stream = out.add_stream_from_template(source.streams.video[0])
            sound = out.add_stream("aac", rate=8000)
            quiet = av.AudioFrame.from_ndarray(np.zeros((1, 20_000), np.float32), format="fltp", layout="mono")
            quiet.sample_rate, quiet.pts = 8000, 0
            out.mux(sound.encode(quiet))
            out.mux(sound.encode())
            for packet in source.demux(video=0):
                if packet.dts is not None and packet.pts is not None and packet.time_base is not None:
                    packet.pts += round(1.5 / packet.time_base)
                    packet.dts += round(1.5 / packet.time_base)
                    packet.stream = stream
                    out.mux(packet)
        return path

    return write


def plain(name: str, codec: str = "libx264") -> Callable[[Path], Path]:
    return lambda folder: write_clip(folder / name, even(30, 30), codec=codec, options=NO_REORDERING)


def reordered(codec: str) -> Callable[[Path], Path]:
    """An AVI whose frames are stored in another order than shown: the container has no presentation stamps."""
    return lambda folder: write_old(folder / "one.avi", codec, "yuv420p", {"bf": "2"})


FILMS = {
    "trimmed": Film(edited((1.5, 0.25, 1)), 1.5, 45),
    "trimmed, uneven": Film(uneven_and_trimmed, 1.5, 32),
    "trimmed at its end": Film(edited((1.0, 0, 1)), 1.0, 30),
    "a stretch cut out": Film(edited((0.8, 0, 1), (0.8, 1.2, 1)), 1.6, 48, "time begins again at 0.8 s"),
    "an empty edit in the middle": Film(
        edited((0.4, 0, 1), (0.6, None, 1), (0.8, 1.2, 1)), 1.8, 36, "time begins again at 1.0 s"
    ),
    "an edit to the end": Film(edited((0, 0.5, 1)), 1.5, 45),
    "a picture held": Film(edited((1.0, 0, 1), (0.5, 1.0, 0), (1.0, 1.0, 1)), 2.5, 60, "another speed"),
    "no speeds": Film(edited((1.5, 0.25, 0)), 1.5, 45),
    "trimmed fragments": Film(trimmed_fragments, 1.5, 45),
    "begins with an empty edit": Film(edited((1.5, None, 1), (2.0, 0, 1)), 2.0, 60, "1.50 s more"),
    "an empty edit and a trimmed tail": Film(edited((0.5, None, 1), (1.0, 0, 1)), 1.0, 30, "0.50 s more"),
    "slowed down": Film(edited((8.0, 0, 0.25)), 8.0, 60, "another speed"),
    "slowed down in the middle": Film(edited((0.5, 0, 1), (4.0, 0.5, 0.25), (0.5, 1.5, 1)), 5.0, 60, "another speed"),
    "joined TS": Film(joined("ts"), 2.0, 60, "time begins again at 1.0 s"),
    "joined MTS": Film(joined("m2ts"), 2.0, 60, "time begins again at 1.0 s"),
    "joined TS, an hour ahead": Film(joined_later, 2.0, 60, "time begins again at 1.0 s"),
    "joined TS, two cameras": Film(joined_cameras, 1.0, 30, "Another recording was joined"),
    "joined MPEG": Film(joined_old("mpg", "mpeg2video", "yuv420p"), 2.0, 60, "time begins again at 1.0 s"),
    "joined AVI": Film(joined_old("avi", "mjpeg", "yuvj420p"), 1.0, 30, "Another recording was joined"),
    "AVI with B-frames": Film(reordered("libx264"), 1.0, 30),
    "AVI with B-frames, Xvid": Film(reordered("mpeg4"), 1.0, 30),
    "joined Matroska": Film(joined("mkv"), 2.0, 60, "time begins again at 1.0 s"),
    "joined MP4": Film(joined("mp4"), 1.0, 30, "Another recording was joined"),
    "interlaced": Film(interlaced, 1.0, 60, "interlaced"),
    "interlaced, fields, TS": Film(fields("ts"), 0.4, 24, "interlaced"),
    "interlaced, fields, MP4": Film(fields("mp4"), 0.4, 24, "interlaced"),
    "interlaced, fields, Matroska": Film(fields("mkv"), 0.4, 24, "interlaced"),
    "a cover without a tag, MP4": Film(tracks("mp4", 1), 1.0, 30, "2 video tracks"),
    "a cover without a tag, Matroska": Film(tracks("mkv", 1), 1.0, 30, "2 video tracks"),
    "two tracks, MP4": Film(tracks("mp4"), 1.0, 30, "2 video tracks"),
    "two tracks, Matroska": Film(tracks("mkv"), 1.0, 30, "2 video tracks"),
    "late pictures, MP4": Film(late("mp4"), 1.0, 30, "1.50 s more"),
    "late pictures, TS": Film(late("ts"), 1.0, 30, "s more"),
    "late pictures, Matroska": Film(late("mkv"), 1.0, 30, "s more"),
    "a gap, MP4": Film(gap("mp4"), 22.0, 60),
    "a gap, TS": Film(gap("ts"), 22.0, 60),
    "a gap, Matroska": Film(gap("mkv"), 22.0, 60),
    "recorded in a browser": Film(live("mkv"), 1.0, 30),
    "camcorder": Film(plain("clip.m2ts"), 1.0, 30),
    "old phone": Film(plain("clip.3gp", "mpeg4"), 1.0, 30),
    "iTunes": Film(plain("clip.m4v"), 1.0, 30),
}


def shown(video: Video) -> tuple[list[int], Losses]:
    """The numbers of all pictures, and the losses."""
    losses = Losses()
    return [number_of(one.rgb) for one in pictures(video, np.arange(len(video.pts)), Limits(), losses)], losses


@pytest.mark.parametrize("kind", FILMS)
def test_a_film_of_every_kind_has_the_right_frames_times_and_note(kind: str, tmp_path: Path) -> None:
    """Every frame that a player shows is read, none is called missing, and a note says what a coach must know."""
    film = FILMS[kind]
    video = probe(film.write(tmp_path), Limits())
    numbers, losses = shown(video)
    assert (len(numbers), losses.message, video.damage) == (film.frames, None, None)
    assert video.end_seconds == pytest.approx(film.seconds, abs=0.08)
    assert (video.width, video.height) == (WIDTH, HEIGHT)
    notes = " ".join(film_notes(video, losses.resized_seconds))
    assert film.note in notes
    assert bool(notes) == bool(film.note)


@pytest.mark.parametrize("kind", [kind for kind in FILMS if "B-frames" in kind])
def test_reordered_frames_are_read_in_the_order_of_a_player(kind: str, tmp_path: Path) -> None:
    """All of them, also from the middle."""
    video = probe(FILMS[kind].write(tmp_path), Limits())
    assert shown(video)[0] == list(range(30))
    some = pictures(video, np.arange(10, 30, 3), Limits(), Losses())
    assert [number_of(one.rgb) for one in some] == list(range(10, 30, 3))


def test_joined_recordings_follow_each_other_on_one_clock(tmp_path: Path) -> None:
    """The second one's pictures come a second later, in order."""
    video = probe(joined("ts")(tmp_path), Limits())
    assert shown(video)[0] == 2 * list(range(30))
    assert video.times == pytest.approx(even(30, 60), abs=1e-3)


def test_a_slowed_stretch_has_the_times_of_a_player(tmp_path: Path) -> None:
    """Half a second at a quarter of its speed lasts two seconds on the clock."""
    video = probe(edited((0.5, 0, 1), (2.0, 0.5, 0.25), (1.0, 1.0, 1))(tmp_path), Limits())
    assert shown(video)[0] == list(range(60))
    steps = np.diff(video.times)
    assert steps[:14] == pytest.approx(1 / 30, abs=2e-3)
    assert steps[16:29] == pytest.approx(4 / 30, abs=2e-3)
    assert steps[31:] == pytest.approx(1 / 30, abs=2e-3)


def test_each_field_is_a_picture_at_its_own_time(tmp_path: Path) -> None:
    """60 pictures a second, each with the number that the camera saw at that time."""
    video = probe(interlaced(tmp_path), Limits())
    assert video.times == pytest.approx(even(60, 60), abs=1e-3)
    fields = pictures(video, np.arange(60), Limits(), Losses())
    # The lines of its own field are the camera's, the others are rebuilt: number_of reads an even line.
    numbers = [number_of(np.roll(one.rgb, one.index % 2 - 1, axis=0)) for one in fields]
    assert numbers == list(range(60))


@pytest.mark.parametrize("suffix", ["mkv", "ts"])
def test_a_turned_phone_stretches_nothing(suffix: str, tmp_path: Path) -> None:
    """The upright half stands between black bars in its own shape, and the time of the change is known."""
    video, losses = probe(turned(suffix)(tmp_path), Limits()), Losses()
    got = list(pictures(video, np.arange(len(video.pts)), Limits(), losses))
    assert (len(got), losses.message) == (60, None)
    assert losses.resized_seconds == pytest.approx(1.0, abs=0.04)
    assert "changes its shape at 1.0 s" in film_notes(video, losses.resized_seconds)[-1]
    bright = np.flatnonzero(got[-1].rgb[HEIGHT - 8].max(axis=1) > 30)
    assert bright.max() - bright.min() + 1 == pytest.approx(HEIGHT * HEIGHT / WIDTH, abs=4)


def test_the_note_of_a_phone_that_was_turned_back_is_true_to_the_end(tmp_path: Path) -> None:
    """The third part has the first one's shape: only pictures of another shape are smaller."""
    video, losses = probe(turned("ts", back=True)(tmp_path), Limits()), Losses()
    got = list(pictures(video, np.arange(len(video.pts)), Limits(), losses))
    assert [one.rgb[HEIGHT - 8].max(axis=1).min() > 30 for one in got[::30]] == [True, False, True]
    note = film_notes(video, losses.resized_seconds)[-1]
    assert "changes its shape at 1.0 s" in note
    assert "Pictures of another shape than the first are shown smaller" in note


@pytest.mark.parametrize(
    ("fps", "reason"),
    [(0.5, "0.5 frames a second are too few"), (1, "1 frame a second is too few"), (5, "5 frames a second are too few"),
     (10, None)],
)  # fmt: skip
def test_too_few_frames_a_second_are_the_reason(fps: float, reason: str | None, tmp_path: Path) -> None:
    """Not "nobody in view": the report asks for a higher rate."""
    video = probe(write_clip(tmp_path / "slow.mp4", even(fps, 6), options=NO_REORDERING), Limits())
    described = describe_film(measure(stroke(30), [], "batting"), video, None)
    assert (described.obstacle and described.obstacle.reason) == (reason and f"{reason}: 10 are needed")


@pytest.mark.parametrize("size", [(2000, 64), (2600, 30), (64, 2000), (1080, 16)])
def test_a_narrow_picture_keeps_its_shape(size: tuple[int, int], tmp_path: Path) -> None:
    """Rounding its short side is no change of its shape."""
    video, losses = probe(write_clip(tmp_path / "narrow.mp4", even(30, 2), size=size), Limits()), Losses()
    assert len(list(pictures(video, np.arange(2), Limits(), losses))) == 2
    assert losses.resized_seconds is None


def test_parts_of_an_edit_list_begin_when_a_player_shows_them(tmp_path: Path) -> None:
    """Cuts between two frames: the next frame comes as late as the edit begins before it."""
    path = edited((0.517, 0.233, 1), (0.311, 1.377, 1))(tmp_path)
    video = probe(path, Limits())
    numbers = shown(video)[0]
    assert numbers == [*range(7, 23), *range(42, 51)]
    assert video.times[16] == pytest.approx(0.517 + 42 / 30 - 1.377 - (7 / 30 - 0.233), abs=2e-3)
    late = next(iter(pictures(video, np.array([20]), Limits(), Losses())))
    assert number_of(late.rgb) == numbers[20]


@pytest.mark.parametrize("size", [(4000, 3000), (2880, 5120)])
def test_pictures_over_4k_are_read(size: tuple[int, int], tmp_path: Path) -> None:
    """Bounded to 1920 at once; the upper limit is 8K."""
    options = {"preset": "ultrafast", "bf": "0"}
    video = probe(write_clip(tmp_path / "large.mp4", even(30, 2), size=size, options=options), Limits())
    got = next(iter(pictures(video, np.array([1]), Limits(), Losses())))
    assert max(got.rgb.shape) == 1920
    assert (video.width, video.height) == size


def test_a_film_beyond_a_limit_is_refused_in_peoples_words(tmp_path: Path) -> None:
    """The sentence has both lengths, or a size that fits."""
    path = write_clip(tmp_path / "clip.mp4", even(1, 200), options={"preset": "ultrafast"})
    with pytest.raises(BadInput, match=r"clip\.mp4 lasts 3\.3 minutes; at most 60 seconds are analysed"):
        probe(path, Limits(max_video_seconds=60))
    with pytest.raises(BadInput, match=r"160x64.*such as 80x32"):
        probe(path, Limits(max_video_pixels=80 * 32))


@pytest.mark.parametrize("name", ["two\nlines.mp4", "\x1b[2Jscreen.mp4", "right\u202eleft.mp4"])
def test_a_name_with_control_characters_is_printed_clean(name: str, tmp_path: Path) -> None:
    """One line, in which no character moves the cursor."""
    (tmp_path / name).write_bytes(b"no video")
    command = [sys.executable, "-m", "services.analyzer", "--video", str(tmp_path / name), "--probe"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 65
    assert done.stderr.strip().isprintable()


def tag_dolby_vision(path: Path, profile: int) -> Path:
    """Declare Dolby Vision in the sample entry of an MP4 in HEVC, whose index stands at the file's end."""
    content = bytearray(path.read_bytes())
    box = struct.pack(">I4s4B20x", 32, b"dvcC", 1, 0, profile << 1, 0)
    movie = content.index(b"moov")
    at = content.index(b"hvcC", movie) - 4
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"hev1"):
        start = content.index(name, movie) - 4
        struct.pack_into(">I", content, start, struct.unpack_from(">I", content, start)[0] + len(box))
    path.write_bytes(bytes(content[:at] + box + content[at:]))
    return path


def test_dolby_vision_without_a_base_layer_is_refused(tmp_path: Path) -> None:
    """Profile 5 in words; profile 8, whose base layer every player shows, is read."""
    options = {"x265-params": "log-level=none"}
    paths = [write_clip(tmp_path / f"{number}.mp4", even(30, 6), codec="libx265", options=options) for number in (5, 8)]
    with pytest.raises(BadInput, match=r"5\.mp4 is not usable: it is in Dolby Vision profile 5"):
        probe(tag_dolby_vision(paths[0], 5), Limits())
    assert len(shown(probe(tag_dolby_vision(paths[1], 8), Limits()))[0]) == 6


def test_dolby_vision_is_refused_in_matroska_and_by_the_header_alone(tmp_path: Path) -> None:
    """Both containers declare the same profile."""
    plain = write_clip(tmp_path / "5.mp4", even(30, 6), codec="libx265", options={"x265-params": "log-level=none"})
    tagged, path = tag_dolby_vision(plain, 5), tmp_path / "5.mkv"
    with av.open(str(tagged)) as source, av.open(str(path), "w", options={"strict": "unofficial"}) as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    for film in (tagged, path):
        declared = header.read(film)
        assert declared
        assert declared.dolby_vision == 5
        with pytest.raises(BadInput, match="it is in Dolby Vision profile 5"):
            probe(film, Limits())


def zeroed(content: bytes) -> bytes:
    """The same length, as of a file whose space was reserved before it was copied."""
    at = 2 * len(content) // 3
    return content[:at] + bytes(len(content) - at)


def holed(content: bytes) -> bytes:
    """With more zeros in it than FFmpeg searches for the next packet."""
    at = len(content) // 2
    return content[:at] + bytes(200_000) + content[at:]


def cut(content: bytes) -> bytes:
    """As a download that broke off."""
    return content[: 2 * len(content) // 3 + 1]


@pytest.mark.parametrize(
    ("write", "damage"),
    [(live("mkv"), zeroed), (live("mkv"), holed), (live("mkv"), cut), (plain("clip.ts"), zeroed),
     (plain("clip.ts"), holed), (plain("clip.m2ts"), zeroed), (trimmed_fragments, zeroed), (plain_mpeg, zeroed),
     (plain_mpeg, holed)],
)  # fmt: skip
def test_a_film_without_a_length_that_lacks_a_part_never_passes_for_whole(
    write: Callable[[Path], Path], damage: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    """Pictures are read, and the damage is named."""
    path = write(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    video = probe(path, Limits())
    assert shown(video)[0]
    assert video.damage


def test_an_index_that_leaves_out_the_end_is_damage(tmp_path: Path) -> None:
    """A consistent shorter index before media of the whole film: the rest is named."""
    whole, short = (
        write_clip(tmp_path / f"{frames}.mp4", even(30, frames), codec="mjpeg", pixels="yuvj420p")
        for frames in (90, 40)
    )
    content, index = bytearray(whole.read_bytes()), short.read_bytes()
    at, length = content.index(b"moov") - 4, len(index) - (index.index(b"moov") - 4)
    path = tmp_path / "damaged.mp4"
    path.write_bytes(bytes(content[:at]) + index[-length:])
    video = probe(path, Limits())
    assert len(video.pts) == 40
    assert "leaves out the last" in (video.damage or "")
