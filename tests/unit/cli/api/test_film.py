"""Films that the client refuses before it sends them, with the analyzer on the machine and without."""

from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration

from crease.upload.v1.upload_pb2 import GetUploadLimitsResponse
from services.cli.api import film
from services.cli.errors import BAD_INPUT, CommandError
from testing.data.clips import even, write_clip
from tests.unit.analyzer.video.test_films import tag_dolby_vision


@pytest.fixture(params=[True, False], ids=["analyzer", "header only"])
def analyzer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client with the analyzer, then without."""
    if not request.param:
        monkeypatch.setattr(film, "has_analyzer", lambda: False)


@pytest.mark.usefixtures("analyzer")
@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (GetUploadLimitsResponse(max_duration=Duration(seconds=60)), "lasts 3.3 minutes; at most 60 seconds"),
        (GetUploadLimitsResponse(max_picture_pixels=160 * 60), "160x64"),
        (GetUploadLimitsResponse(max_content_length=1000), "at most 1000 bytes"),
    ],
)
def test_a_film_beyond_a_limit_is_refused_before_it_is_sent(
    tmp_path: Path, name: str, limits: GetUploadLimitsResponse, words: str
) -> None:
    """In the words of the analysis, with exit code 65."""
    path = write_clip(tmp_path / name, even(1, 200))
    with pytest.raises(CommandError) as caught:
        film.look(path, limits)
    assert words in caught.value.sentence
    assert caught.value.exit_code == BAD_INPUT


@pytest.mark.usefixtures("analyzer")
@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts"])
def test_a_film_within_the_limits_passes(tmp_path: Path, name: str) -> None:
    """Also against a server that names no limits."""
    path = write_clip(tmp_path / name, even(30, 30))
    found = film.look(path, GetUploadLimitsResponse())
    assert found.seconds == pytest.approx(1.0, abs=0.1) or (name == "clip.ts" and found == film.Film())


@pytest.mark.usefixtures("analyzer")
def test_dolby_vision_without_a_base_layer_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    """In the words of the analysis, also where the client has only the header."""
    options = {"x265-params": "log-level=none"}
    path = tag_dolby_vision(write_clip(tmp_path / "5.mp4", even(30, 3), codec="libx265", options=options), 5)
    with pytest.raises(CommandError, match=r"5\.mp4 is not usable: it is in Dolby Vision profile 5") as caught:
        film.look(path, GetUploadLimitsResponse())
    assert caught.value.exit_code == BAD_INPUT


@pytest.mark.usefixtures("analyzer")
def test_an_mp4_without_its_index_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    """A film that was cut in its middle: the sentence says what to do."""
    path = write_clip(tmp_path / "cut.mp4", even(30, 30))
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(CommandError, match=r"cut\.mp4 is incomplete: it has no index.* copy") as caught:
        film.look(path, GetUploadLimitsResponse())
    assert caught.value.exit_code == BAD_INPUT


@pytest.mark.slow
def test_a_proxy_has_every_picture_at_its_time_in_fewer_bytes(tmp_path: Path) -> None:
    """A 4K film becomes one of 1920 pixels."""
    path = write_clip(tmp_path / "large.mp4", even(30, 12), size=(3840, 1536), options={"preset": "ultrafast"})
    limits, proxy = GetUploadLimitsResponse(), tmp_path / "proxies" / "small.mp4"
    assert film.look(path, limits).is_larger_than_needed(path.stat().st_size)
    film.make_proxy(path, proxy, limits)
    small = film.look(proxy, limits)
    assert (small.frames, small.width, small.height) == (12, 1920, 768)
    assert small.seconds == pytest.approx(0.4, abs=0.01)
    assert proxy.stat().st_size < path.stat().st_size


@pytest.mark.parametrize(("mbits", "is_sent"), [(60, False), (14, False), (8, True), (3, True)])
def test_a_film_of_few_bytes_is_sent_as_it_is(mbits: float, is_sent: bool) -> None:
    """A minute of 4K, known before any time is spent: the sentence has both sizes."""
    large = film.Film(seconds=60, width=3840, height=2160, frames=1800)
    sentence = large.saves_nothing(round(mbits * 60e6 / 8))
    assert bool(sentence) == is_sent
    assert not is_sent or f"instead of {mbits * 60 / 8:.1f} MB: the original is sent" in sentence


def test_an_estimate_counts_at_most_sixty_frames_a_second() -> None:
    """The smaller film has no more."""
    films = [film.Film(seconds=10, width=1920, height=1080, frames=10 * fps) for fps in (60, 240)]
    assert films[0].saves_nothing(1) == films[1].saves_nothing(1) != ""
