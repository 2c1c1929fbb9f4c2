"""Watches a video twice: the whole clip at an even rate, then each action at every frame.

    whole clip, one person ──a crowd is seen──▶ whole clip again, everybody ─▶ the athlete
         └──────────────── nobody else ────────────────▶ the athlete ─▶ windows ─▶ close-ups

Each run has a landmarker of its own, and decodes ahead in another thread. A close-up has two: one sees it in a mirror.
"""

from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import numpy as np

from services.analyzer.athlete import Box, Preference, boxed, follow, known, largest
from services.analyzer.decode import Losses, Picture, ahead, pictures
from services.analyzer.mirror import BothWays
from services.analyzer.pose import Choose, Glance, Lookout, PoseEstimator, Posing, first, watch
from services.analyzer.probe import Video
from services.analyzer.repeats import Stillness
from services.analyzer.sampling import Indices, every
from services.analyzer.series import Floats, Poses
from services.analyzer.settings import Limits
from services.analyzer.smooth import rows

# With more people than this in view, the smallest are not followed.
MOST_PEOPLE = 4
# A look for others costs two frames' time; a video gets about this many, at most one every so often.
LOOKS, LOOK_SECONDS = 15, 3.0

# Told how far something is, 0 to 1, ever growing.
Progress = Callable[[float], None]
# Sees all pictures on their way to the pose model.
Passing = Callable[[Iterable[Picture]], Iterable[Picture]]


@dataclass(frozen=True)
class Seen:
    """What was seen in a video: the sampled clip, every action close up, the most people at once, what was lost."""

    wanted: Indices
    whole: Poses
    people: int
    closeups: list[Poses] = field(default_factory=list)
    lost: str | None = None


class Viewer:
    """Watches one video, for one athlete. box: around them in the first frame, where a client gave one."""

    def __init__(self, video: Video, posing: Posing, limits: Limits, box: Box | None) -> None:
        self.video = video
        self._posing = posing
        self._limits = limits
        self._size = np.array([video.width, video.height], dtype=float)
        self._preferred: Preference = boxed(box, self._size) if box else largest

    def look(self, wanted: Indices, progress: Progress) -> Seen:
        """The wanted frames of the whole clip."""
        losses = Losses()
        pause = max(LOOK_SECONDS, self.video.duration_seconds / LOOKS)
        with self._posing.fresh(MOST_PEOPLE, Glance) as anybody:
            lookout = Lookout(anybody, pause)
            whole = self._pose(wanted, losses, progress, passing=lookout.noting)
        people = lookout.most_people
        if people > 1:
            whole = self._pose(wanted, losses, progress, MOST_PEOPLE, self._choosing(self._preferred))
            people = max(people, int(whole.people.max(initial=0)))
        return Seen(wanted, whole, people, lost=losses.sentence)

    def look_closer(self, seen: Seen, windows: list[tuple[float, float]], progress: Progress) -> Seen:
        """Every frame of each (start, end) in seconds, less those that show the picture before once more."""
        losses, closeups = Losses(), []
        most, choose = (MOST_PEOPLE, self._choosing(known(seen.whole))) if seen.people > 1 else (1, first)
        for i, (start, end) in enumerate(windows):
            part = share(progress, i / len(windows), (i + 1) / len(windows))
            stillness = Stillness()
            close = every(self.video.times, start, end)
            poses = self._pose(close, losses, part, most, choose, stillness.noting, both_ways=True)
            closeups.append(rows(poses, ~stillness.repeats()))
        return replace(seen, closeups=closeups, lost=seen.lost or losses.sentence)

    def _choosing(self, prefer: Preference) -> Choose:
        return lambda crowd, times: follow(crowd, times, self._size, prefer)

    def _pose(
        self,
        wanted: Indices,
        losses: Losses,
        progress: Progress,
        most_people: int = 1,
        choose: Choose = first,
        passing: Passing = iter,
        both_ways: bool = False,
    ) -> Poses:
        source = ahead(pictures(self.video, wanted, self._limits, losses))
        told = _telling(source, self.video.times[wanted], progress)
        with ExitStack() as open_:
            landmarker: PoseEstimator = open_.enter_context(self._posing.fresh(most_people))
            if both_ways:
                landmarker = BothWays(landmarker, open_.enter_context(self._posing.fresh(most_people)))
            return watch(landmarker, passing(told), self.video.width, self.video.height, choose)


def share(progress: Progress, start: float, end: float) -> Progress:
    """Progress of a part, as progress of the whole."""
    return lambda fraction: progress(start + (end - start) * fraction)


def growing(progress: Progress) -> Progress:
    """The same, less what would go back: a crowd makes the first pass begin anew."""
    best = -1.0

    def tell(fraction: float) -> None:
        nonlocal best
        if fraction > best:
            best = fraction
        progress(best)

    return tell


def _telling(
    source: Generator[Picture, None, None], times: Floats, progress: Progress
) -> Generator[Picture, None, None]:
    """The same pictures; each tells by its time how far we are."""
    span = max(float(times[-1] - times[0]), 1e-9) if len(times) else 1.0
    try:
        for picture in source:
            yield picture
            progress(min((picture.time_seconds - float(times[0])) / span, 1.0))
    finally:
        source.close()  # ends the decoder's thread where the caller has seen enough
