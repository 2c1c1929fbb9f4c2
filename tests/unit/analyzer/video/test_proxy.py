"""The smaller film of --proxy shows the pose model what the film itself shows, or is refused."""

import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.stream import VideoStream

from services.analyzer.arrays import Pixels
from services.analyzer.errors import BadInput
from services.analyzer.pipeline import Analysis, AnalysisOptions
from services.analyzer.report.metadata import Metadata
from services.analyzer.settings import Accelerator, Limits, Settings
from services.analyzer.video.frames import Losses, pictures
from services.analyzer.video.probe import Video, probe
from services.analyzer.video.proxy import write_proxy
from testing.data.clips import even, tag_capture_fps, write_clip
from testing.data.videos import BATTER, corpus, needs_model
from tests.unit.analyzer.video.test_films import joined, turned

LARGE = (3840, 2160)
# A comparison calls a number changed beyond this many standard errors of the difference.
CHANGED = 1.96
HLG = {"color_primaries": 9, "color_trc": 18, "colorspace": 9}


def small(video: Video, folder: Path) -> Video:
    """The proxy of a film."""
    write_proxy(video, Limits(), folder / "proxy.mp4")
    return probe(folder / "proxy.mp4", Limits())


def shown(video: Video) -> list[Pixels]:
    return [one.rgb for one in pictures(video, np.arange(len(video.pts)), Limits(), Losses())]


def write_coarse(path: Path) -> Path:
    """Frames of the batter in 4K, coded so coarsely that the blocks would show without the deblocking filter."""
    with av.open(str(BATTER)) as source, av.open(str(path), "w") as target:
        options = {"preset": "veryfast", "crf": "44", "bf": "2", "deblock": "3,3"}
        stream = target.add_stream("libx264", rate=30, options=options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = LARGE
        stream.pix_fmt = "yuv420p"
        for number, frame in zip(range(10), source.decode(video=0), strict=False):
            large = frame.reformat(*LARGE, format="yuv420p")
            large.pts, large.time_base = number, Fraction(1, 30)
            target.mux(stream.encode(large))
        target.mux(stream.encode())
    return path


@pytest.mark.slow
def test_the_pictures_of_a_proxy_are_those_of_the_film(tmp_path: Path) -> None:
    """Within the noise of coding, up to the last picture before a key frame."""
    film = probe(write_coarse(tmp_path / "coarse.mp4"), Limits())
    proxy = small(film, tmp_path)
    assert proxy.times == pytest.approx(film.times, abs=1e-4)
    for theirs, ours in zip(shown(film), shown(proxy), strict=True):
        assert ours.shape == theirs.shape == (1080, 1920, 3)
        assert psnr(theirs, ours) > 45


def psnr(one: Pixels, other: Pixels) -> float:
    return 10 * math.log10(255**2 / float(np.square(one.astype(np.float32) - other).mean()))


def test_a_film_of_high_dynamic_range_keeps_its_levels(tmp_path: Path) -> None:
    """The pose model gets the same pictures, and the overlay still knows how to convert them."""
    path = write_clip(tmp_path / "hlg.mp4", even(30, 6), pixels="yuv420p10le", size=(320, 128), color=HLG)
    film = probe(path, Limits())
    proxy = small(film, tmp_path)
    assert film.hdr == proxy.hdr == "hlg"
    assert all(psnr(theirs, ours) > 34 for theirs, ours in zip(shown(film), shown(proxy), strict=True))


@pytest.mark.parametrize(("stated", "plays"), [(0.0, 30.0), (120.0, 30.0), (240.0, 240.0)])
def test_a_proxy_plays_in_real_time(stated: float, plays: float, tmp_path: Path) -> None:
    """By the client's rate or the file's tag; its own rate then says that it does."""
    path = write_clip(tmp_path / "slow.mp4", even(plays, 48), options={"bf": "0"})
    film = probe(path if stated else tag_capture_fps(path, "120"), Limits(), stated)
    proxy = small(film, tmp_path)
    assert proxy.slowdown == 1.0
    assert proxy.capture_fps
    assert proxy.duration_seconds == pytest.approx(film.duration_seconds, abs=0.02)
    assert proxy.fps == pytest.approx(60, abs=3)


def truncated(folder: Path) -> Path:
    path = write_clip(folder / "clip.mkv", even(30, 60), options={"g": "10"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    return path


@pytest.mark.parametrize(
    ("write", "reason"),
    [(truncated, "the video ends"), (joined("ts"), "several recordings"), (joined("mp4"), "several recordings"),
     (turned("mkv"), "changes its shape")],
)  # fmt: skip
def test_a_film_whose_faults_a_proxy_would_hide_is_refused(
    write: Callable[[Path], Path], reason: str, tmp_path: Path
) -> None:
    """The sentence says why, and what to do."""
    with pytest.raises(BadInput, match=f"cannot be made smaller: .*{reason}.*send it without --proxy"):
        small(probe(write(tmp_path), Limits()), tmp_path)


@pytest.mark.slow
@needs_model
@pytest.mark.parametrize("clip", ["bowl_01", "bowl_14"])
def test_a_proxy_gives_the_numbers_of_the_film(clip: str, tmp_path: Path) -> None:
    """A 4K film and its proxy have the same events, and no comparison calls one of their numbers changed."""
    film = corpus(f"bowling/{clip}_2160p.mp4")
    write_proxy(probe(film, Limits()), Limits(), tmp_path / "proxy.mp4")
    results = [analysed(path, tmp_path / path.stem) for path in (film, tmp_path / "proxy.mp4")]
    theirs, ours = (result["pose"]["pose_summary"] for result in results)
    assert [event["name"] for event in ours["events"]] == [event["name"] for event in theirs["events"]]
    times = [[event["time_seconds"] for event in one["events"]] for one in (ours, theirs)]
    assert times[0] == pytest.approx(times[1], abs=1 / 30)
    for values, other in zip(*(numbers(result) for result in results), strict=True):
        both = values[0] is not None and other[0] is not None
        assert not both or abs(values[0] - other[0]) < CHANGED * math.hypot(values[1], other[1])


def analysed(path: Path, out: Path) -> dict[str, Any]:
    out.mkdir()
    settings = Settings(accelerator=Accelerator.cpu)
    options = AnalysisOptions(discipline="bowling")
    return Analysis(path, options, settings, Metadata(discipline="bowling")).deep(out, lambda _: None)


def numbers(results: dict[str, Any]) -> list[tuple[float | None, float]]:
    """Each number with its scatter from film to film, by name."""
    summary = results["pose"]["pose_summary"]
    every = sorted((results["metrics"] | summary["measures"]).items())
    return [(metric["value"], summary["scatter"][name]) for name, metric in every]
