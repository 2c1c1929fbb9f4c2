"""Watches a video twice: the whole clip at an even rate, then each action at every frame.

    whole clip, one person ──others are seen──▶ whole clip again, everybody ─▶ the athlete
         └──────────────── nobody else ────────────────▶ the athlete ─▶ windows ─▶ close-ups

Each run has a landmarker of its own. Another process decodes ahead of it, and the next picture is looked at for other
things meanwhile. A close-up of an athlete who is alone has two landmarkers: one sees it in a mirror.
"""

import weakref
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import pairwise

import numpy as np

from services.analyzer.biomechanics.filtering import rows
from services.analyzer.pose.estimator import Glance, Posing, Watch, watch
from services.analyzer.pose.flip_average import Mirror
from services.analyzer.pose.landmarks import Floats, Poses
from services.analyzer.pose.multi_person import Crowd, Expected, Lookout, Spot
from services.analyzer.pose.tracking import Box, Follow, boxed, expecting, expecting_in, known, largest, one_person
from services.analyzer.settings import Limits
from services.analyzer.video.camera_motion import Camera, Steadiness
from services.analyzer.video.duplicate_frames import Stillness
from services.analyzer.video.frames import LONG_SIDE, Losses, Picture, fitted, lent_pictures
from services.analyzer.video.prefetch import ahead
from services.analyzer.video.probe import Video
from services.analyzer.video.sampling import Indices, every

# With more people than this in view, the smallest are not followed.
MOST_PEOPLE = 4
# A look for others costs two frames' time; a video gets about this many, at most one every so often.
LOOKS, LOOK_SECONDS = 15, 3.0

# Of a window that a cut splits, parts shorter than this hold no action; a first pass has a step of at most so much.
SHORTEST_WINDOW_SECONDS, CUT_STEP_SECONDS = 0.5, 0.1
# Told how far something is, 0 to 1, ever growing.
Progress = Callable[[float], None]
# Sees all pictures on their way to the pose model.
Passing = Callable[[Iterable[Picture]], Generator[Picture, None, None]]
# Pictures of one run, for a `with`.
Shown = Callable[[Passing], AbstractContextManager[Iterable[Picture]]]


@dataclass(frozen=True)
class Seen:
    """What was seen in a video: the sampled clip, every action close up, and what is to be known of both.

    people: the most at once. chosen_by: how the athlete was told from the others, `alone`, `size` or `box`;
    certainty: how clear that was, 0 to 1. closeups: less the frames that only repeat the one before; shown: with them.
    lost: what did not decode, None where all did.
    """

    wanted: Indices
    whole: Poses
    people: int
    steadiness: Steadiness
    chosen_by: str = "alone"
    certainty: float = 1.0
    closeups: list[Poses] = field(default_factory=list)
    shown: list[Poses] = field(default_factory=list)
    lost: str | None = None


@dataclass
class Sweep:
    """One landmarker's run over the sampled clip, from its beginning; it can go on where it stopped.

    lookout: while the athlete is believed to be alone. people: how many were seen before it began. wanted: so far.
    """

    watch: Watch
    lookout: Lookout | None
    people: int = 0
    camera: Camera = field(default_factory=Camera)
    losses: Losses = field(default_factory=Losses)
    wanted: Indices = field(default_factory=lambda: np.empty(0, dtype=np.intp))


class Viewer:
    """Watches one video, for one athlete. box: around them in the first frame, where a client gave one."""

    def __init__(self, video: Video, posing: Posing, limits: Limits, box: Box | None) -> None:
        self.video = video
        self._posing = posing
        self._limits = limits
        self._size = np.array([video.width, video.height], dtype=float)
        self._box = box
        self._sweep: Sweep | None = None
        self._landmarkers = ExitStack()
        weakref.finalize(self, self._landmarkers.close)

    def look(self, wanted: Indices, progress: Progress, *, more: bool = False) -> Seen:
        """The wanted frames of the whole clip. more: a later look may want others after these.

        That one decodes and poses the others alone, and sees what it would have seen had it begun anew.
        """
        sweep = self._sweep
        if not sweep or not self._goes_on(sweep, wanted):
            sweep = self._begin(2) if self._box else self._begin()
        self._see(sweep, wanted, progress)
        seen = self._seen(sweep)
        if sweep.lookout and (seen.people > 1 or not one_person(seen.whole)):
            sweep = self._begin(max(seen.people, 1))
            self._see(sweep, wanted, progress)
            seen = self._seen(sweep)
        if not more:
            self._landmarkers.close()
            self._sweep = None
        return seen

    def _seen(self, sweep: Sweep) -> Seen:
        """What a sweep saw so far."""
        width, height = self.video.width, self.video.height
        if sweep.lookout:
            whole = sweep.watch.poses(width, height)
            people = max(sweep.lookout.most_people, int(whole.people.max(initial=0)))
            return Seen(sweep.wanted, whole, people, sweep.camera.steadiness(), lost=sweep.losses.sentence)
        choose = Follow(self._size, boxed(self._box, self._size) if self._box else largest)
        whole = sweep.watch.poses(width, height, choose)
        return Seen(
            sweep.wanted,
            whole,
            max(sweep.people, int(whole.people.max(initial=0))),
            sweep.camera.steadiness(),
            "box" if self._box else "size",
            choose.certainty,
            lost=sweep.losses.sentence,
        )

    def _begin(self, people: int = 0) -> Sweep:
        """A sweep for one who is alone; with so many people in view, for everybody."""
        self._landmarkers.close()
        if people:
            expected = expecting_in(self._box, self._size) if self._box else _nowhere
            sweep = Sweep(Watch(self._crowd(self._landmarkers, expected)), None, people)
        else:
            stack, posing = self._landmarkers, self._posing
            anybody = cache(lambda: stack.enter_context(posing.fresh(MOST_PEOPLE, Glance)))
            lookout = Lookout(anybody, max(LOOK_SECONDS, self.video.duration_seconds / LOOKS))
            sweep = Sweep(Watch(stack.enter_context(posing.fresh())), lookout)
        self._sweep = sweep
        return sweep

    def _goes_on(self, sweep: Sweep, wanted: Indices) -> bool:
        """Whether what it saw is the beginning of what is wanted now, and is what a new one would see.

        A damaged file may decode otherwise from the middle; and whether somebody leaps is judged by all of the clip.
        """
        whole = not (self.video.damage or sweep.losses.sentence)
        sure = sweep.lookout is not None or sweep.people > 1
        return whole and sure and np.array_equal(sweep.wanted, wanted[: len(sweep.wanted)])

    def _see(self, sweep: Sweep, wanted: Indices, progress: Progress) -> None:
        """Let it see those of the wanted frames that it has not seen."""
        others = wanted[len(sweep.wanted) :]
        with self._shown(others, sweep.losses, progress, sweep.camera.noting) as shown:
            sweep.watch.see(sweep.lookout.noting(shown) if sweep.lookout else shown)
        sweep.wanted = wanted

    def _crowd(self, stack: ExitStack, expected: Expected) -> Crowd:
        """An estimator of everybody, the athlete looked for where they should be."""
        follower = stack.enter_context(self._posing.fresh(MOST_PEOPLE))
        anybody = stack.enter_context(self._posing.fresh(MOST_PEOPLE, Glance))
        return Crowd(follower, anybody, self._as_shown(expected))

    def look_closer(self, seen: Seen, windows: list[tuple[float, float]], progress: Progress) -> Seen:
        """Every frame of each (start, end) in seconds, less those that show the picture before once more."""
        losses, closeups, all_shown = Losses(), list[Poses](), list[Poses]()
        close_up = self._both_ways if seen.chosen_by == "alone" else partial(self._among_others, seen.whole)
        for i, (start, end) in enumerate(windows):
            stillness, wanted = Stillness(), every(self.video.times, start, end)
            part = share(progress, i / len(windows), (i + 1) / len(windows))
            poses = close_up(partial(self._shown, wanted, losses, part), stillness.noting)
            closeups.append(rows(poses, ~stillness.repeats()))
            all_shown.append(poses)
        return replace(seen, closeups=closeups, shown=all_shown, lost=seen.lost or losses.sentence)

    def _both_ways(self, shown: Shown, passing: Passing) -> Poses:
        """Of the only one in view."""
        with ExitStack() as landmarkers:
            mirror = Mirror(lambda: landmarkers.enter_context(self._posing.fresh()))
            with shown(lambda pictures: mirror.noting(passing(pictures))) as pictures:
                plain = landmarkers.enter_context(self._posing.fresh())
                return watch(plain, pictures, self.video.width, self.video.height, mirror.first)

    def _among_others(self, whole: Poses, shown: Shown, passing: Passing) -> Poses:
        """Of whom the whole clip's poses show."""
        with ExitStack() as landmarkers, shown(passing) as pictures:
            crowd = self._crowd(landmarkers, expecting(whole))
            choose = Follow(self._size, known(whole))
            return watch(crowd, pictures, self.video.width, self.video.height, choose)

    @contextmanager
    def _shown(
        self, wanted: Indices, losses: Losses, progress: Progress, passing: Passing
    ) -> Generator[Iterable[Picture], None, None]:
        """The wanted pictures, each decoded and passed while the model looks at the one before."""
        with (
            closing(lent_pictures(self.video, wanted, self._limits, losses)) as source,
            ahead(passing(source)) as coming,
        ):
            yield _telling(coming, self.video.times[wanted], progress)

    def _as_shown(self, expected: Expected) -> Expected:
        """The same in pixels of the pictures that the model is shown."""
        scale = fitted(self.video, LONG_SIDE)[0] / self.video.width

        def shown(time: float) -> Spot | None:
            spot = expected(time)
            return spot and Spot(spot.place * scale, spot.height * scale)

        return shown


def _nowhere(time: float) -> Spot | None:
    """Nobody knows where the athlete is."""
    return None


def uncut(windows: list[tuple[float, float]], cuts: tuple[float, ...]) -> list[tuple[float, float]]:
    """The windows, each within one shot: at a cut the athlete leaps, which looks like the fastest of strokes."""
    parts = []
    for start, end in windows:
        edges = [start, *(cut for cut in cuts if start < cut < end), end]
        # The last picture before a cut may lie anywhere in the sample's last step: leave that out.
        spans = [(a, b - CUT_STEP_SECONDS if b != end else b) for a, b in pairwise(edges)]
        parts += [(a, b) for a, b in spans if b - a >= SHORTEST_WINDOW_SECONDS]
    return parts


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


def _telling(source: Iterable[Picture], times: Floats, progress: Progress) -> Generator[Picture, None, None]:
    """The same pictures; each tells by its time how far we are."""
    span = max(float(times[-1] - times[0]), 1e-9) if len(times) else 1.0
    for picture in source:
        yield picture
        progress(min((picture.time_seconds - float(times[0])) / span, 1.0))
