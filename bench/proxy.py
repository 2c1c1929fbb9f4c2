"""Compares the numbers of real films with those of their smaller films, at several qualities of the encoder.

    film ─▶ analysis ───────────────────────────┐
    film ─▶ smaller film, per setting ─▶ analysis ─▶ largest change, numbers that only one has, bytes

A change is counted in standard errors of the difference; a comparison calls a number changed beyond 1.96. Pictures are
coded again in each setting: the first one hardly loses anything, so its changes are those of any other coding.
"""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from bench.figures import Figure
from testing.data.videos import CORPUS

# Films as they were filmed or published: two in 4K, one of 1080x1920 and 60 frames a second, and smaller ones.
FILMS = (
    "bowling/bowl_01_2160p", "bowling/bowl_14_2160p", "pose2sim/cam01", "bowling/bowl_11_540p",
    "bowling/bowl_21_540p", "bowling/bowl_26_540p", "deliveries/bowl_u16_540p", "deliveries/bowl_u17_540p",
)  # fmt: skip
# What a comparison calls a change, and the largest share of a 4K film of 15 to 18 Mbit/s.
GOAL_ERRORS, GOAL_BYTES = 1.96, 0.5


@dataclass(frozen=True)
class Setting:
    """A quality of the smaller film."""

    preset: str
    crf: int
    long_side: int = 1920

    def __str__(self) -> str:
        return f"{self.long_side}_{self.preset}_{self.crf}"


SETTINGS = (
    Setting("medium", 10), Setting("veryfast", 18), Setting("medium", 18), Setting("medium", 20),
    Setting("medium", 22), Setting("medium", 24), Setting("medium", 27), Setting("medium", 20, 1280),
)  # fmt: skip


@dataclass
class Compared:
    """One film beside its smaller one. changes: in errors of the difference, by the number's name."""

    film: str
    share: float
    mbits: float
    changes: dict[str, float]
    only_one: list[str]
    moved: float


def run() -> Iterator[Figure]:
    """Figures of every setting; none without the corpus."""
    there = [CORPUS / f"{name}.mp4" for name in FILMS if (CORPUS / f"{name}.mp4").exists()]
    if not there:
        return
    with tempfile.TemporaryDirectory(prefix="crease-bench-") as name:
        originals = {film: analysed(film, Path(name) / film.stem) for film in there}
        for setting in SETTINGS:
            folder = Path(name) / str(setting)
            folder.mkdir()
            yield from figures(setting, [compare(film, originals[film], setting, folder) for film in there])


def figures(setting: Setting, films: list[Compared]) -> Iterator[Figure]:
    """The largest change of a number, of a moment, the numbers that one film lacks, and the bytes."""
    changes = [(change, f"{name} of {one.film}") for one in films for name, change in one.changes.items()]
    largest, where = max(changes)
    how = f"errors of the difference: {where}; {len(changes)} numbers of {len(films)} real films"
    yield Figure(f"proxy.largest_change_{setting}", largest, "ratio", GOAL_ERRORS, how=how)
    beyond = [where for change, where in changes if change > 1]
    yield Figure(f"proxy.changes_over_error_{setting}", len(beyond), "numbers", how=", ".join(beyond))
    lacking = [f"{name} of {one.film}" for one in films for name in one.only_one]
    yield Figure(f"proxy.numbers_of_one_film_only_{setting}", len(lacking), "numbers", how=", ".join(lacking))
    yield Figure(f"proxy.moments_moved_{setting}", max(one.moved for one in films), "s")
    large = [one for one in films if "2160p" in one.film]
    how = ", ".join(f"{one.film} {one.share:.2f} ({one.mbits:.1f} Mbit/s)" for one in films)
    yield Figure(f"proxy.bytes_{setting}", fmean(one.share for one in large or films), "ratio", GOAL_BYTES, how=how)


def compare(film: Path, theirs: dict[str, Any], setting: Setting, folder: Path) -> Compared:
    """The film's numbers beside those of its smaller film."""
    from services.analyzer.settings import Limits
    from services.analyzer.video.probe import probe
    from services.analyzer.video.proxy import OPTIONS, write_proxy

    proxy, video = folder / f"{film.stem}.mp4", probe(film, Limits())
    options = OPTIONS | {"preset": setting.preset, "crf": str(setting.crf)}
    write_proxy(video, Limits(), proxy, options, setting.long_side)
    ours = analysed(proxy, folder / film.stem)
    one, other = numbers(theirs), numbers(ours)
    both = one.keys() & other.keys()
    changes = {
        name: abs(one[name][0] - other[name][0]) / max(math.hypot(one[name][1], other[name][1]), 1e-9) for name in both
    }
    size = proxy.stat().st_size
    return Compared(
        film.stem,
        size / film.stat().st_size,
        8e-6 * size / video.duration_seconds,
        changes,
        sorted(one.keys() ^ other.keys()),
        moved(theirs, ours),
    )


def analysed(film: Path, out: Path) -> dict[str, Any]:
    """The results of one film."""
    from services.analyzer.pipeline import Analysis, AnalysisOptions
    from services.analyzer.report.metadata import Metadata
    from services.analyzer.settings import Accelerator, Settings

    logging.disable()
    out.mkdir()
    settings = Settings(accelerator=Accelerator.cpu)
    options = AnalysisOptions(discipline="bowling")
    return Analysis(film, options, settings, Metadata(discipline="bowling")).deep(out, lambda _: None)


def numbers(results: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """The numbers of a result, each with its scatter from film to film."""
    summary = results["pose"]["pose_summary"]
    values = {name: metric["value"] for name, metric in (results["metrics"] | summary["measures"]).items()}
    return {name: (value, summary["scatter"][name]) for name, value in values.items() if value is not None}


def moved(theirs: dict[str, Any], ours: dict[str, Any]) -> float:
    """By how many seconds the moment of an action moved most; infinite if one film has other moments."""
    one, other = (
        [(event["name"], event["time_seconds"]) for event in results["pose"]["pose_summary"]["events"]]
        for results in (theirs, ours)
    )
    if [name for name, _ in one] != [name for name, _ in other]:
        return math.inf
    return max((abs(mine - its) for (_, mine), (_, its) in zip(one, other, strict=True)), default=0.0)
