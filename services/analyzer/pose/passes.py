"""Runs the pose model over a video in two passes: the whole clip at an even rate, then each action at every frame.

    whole clip: one person ──others are found──▶ all people in the rest ─▶ the athlete ─▶ windows ─▶ close-ups

Each run has a landmarker of its own. Another process decodes ahead, and the next picture is observed for other purposes
meanwhile. A close-up of an athlete who is alone runs two landmarkers: one on flipped pictures.
"""

import weakref
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import pairwise

import numpy as np

from services.analyzer.arrays import Floats, Indices
from services.analyzer.pose.crowd_check import CrowdAwareEstimator
from services.analyzer.pose.estimator import (
    ImageLandmarker,
    LandmarkerFactory,
    PoseEstimator,
    PoseRun,
    choose_first,
    estimate_poses,
)
from services.analyzer.pose.flip_average import FlipAverage
from services.analyzer.pose.landmarks import Poses, select_frames
from services.analyzer.pose.multi_person import ExpectedLocation, Location, MultiPersonEstimator
from services.analyzer.pose.tracking import (
    AthleteSelector,
    Box,
    Candidate,
    acting,
    candidates,
    expect_athlete,
    expect_in_box,
    largest,
    nearest_to_athlete,
    nearest_to_box,
)
from services.analyzer.progress import Progress, part_of
from services.analyzer.settings import Limits
from services.analyzer.video.camera_motion import CameraMotion, CameraMotionDetector
from services.analyzer.video.duplicate_frames import DuplicateDetector
from services.analyzer.video.frames import LONG_SIDE, Losses, Picture, borrowed_pictures, fit_size
from services.analyzer.video.prefetch import prefetch
from services.analyzer.video.probe import Video
from services.analyzer.video.sampling import every

# If more people are in view, the smallest are not tracked.
MOST_PEOPLE = 4
# Under this certainty the film does not show who of several people is the athlete.
CLEAR_CHOICE = 0.5
# `chosen_by` of an athlete who is known whatever the film shows.
CERTAIN_CHOICES = ("alone", "box")
# A crowd check costs as much as four frames: about this many a video, at least this many seconds apart.
CROWD_CHECKS, CROWD_CHECK_SECONDS = 15, 3.0

# A part of a window that is shorter contains no action. A cut may lie anywhere in a step of the whole-clip pass, which
# lasts at most this long.
MIN_WINDOW_SECONDS, CUT_STEP_SECONDS = 0.5, 0.1
# Observes all pictures on their way to the pose model.
Observer = Callable[[Iterable[Picture]], Generator[Picture, None, None]]
# Opens the pictures of one run, each passed through an observer.
OpenPictures = Callable[[Observer], AbstractContextManager[Iterable[Picture]]]


@dataclass(frozen=True)
class PoseResult:
    """The athlete's poses in the whole clip and in each close-up, with the facts about both passes.

    wanted: the sampled frames. people: the most at once. chosen_by: how the athlete was selected, `alone`, `action`,
    `size` or `box`. certainty: how clear the choice was, 0 to 1. candidates: those who may be the athlete, in the
    picture at candidates_seconds: one if no picture shows two of them; none if the choice is clear, or of an earlier
    analysis. closeups: without duplicate frames. closeups_with_duplicates: with them. windows: their (start, end) in
    seconds. lost: a sentence about frames that did not decode, None if all did. resized_seconds: the first picture of
    another shape than the video's, None if all have the same.
    """

    wanted: Indices
    whole: Poses
    people: int
    camera_motion: CameraMotion
    chosen_by: str = "alone"
    certainty: float = 1.0
    candidates: tuple[Candidate, ...] = ()
    candidates_seconds: float = 0.0
    closeups: list[Poses] = field(default_factory=list)
    closeups_with_duplicates: list[Poses] = field(default_factory=list)
    windows: list[tuple[float, float]] = field(default_factory=list)
    lost: str | None = None
    resized_seconds: float | None = None

    @property
    def is_clear(self) -> bool:
        """Whether the athlete is known, if several people are in view."""
        return self.chosen_by in CERTAIN_CHOICES or self.certainty >= CLEAR_CHOICE


@dataclass
class WholeClipRun:
    """One estimator's run over the sampled clip, from its beginning; it can be continued.

    crowd: the estimator, None if it follows all people from the start, of whom so many are known. wanted: the frames so
    far.
    """

    pose_run: PoseRun
    crowd: CrowdAwareEstimator | None
    people: int = 0
    camera: CameraMotionDetector = field(default_factory=CameraMotionDetector)
    losses: Losses = field(default_factory=Losses)
    wanted: Indices = field(default_factory=lambda: np.empty(0, dtype=np.intp))


class PosePasses:
    """Estimates one athlete's poses in one video. box: around the athlete in the first frame, from the client.

    kept: the poses of an earlier analysis with the same whole-clip pass; frames that it has are not estimated again.
    evidence: how much the poses of one person look like an action, 0 if they do not.
    """

    def __init__(
        self,
        video: Video,
        landmarkers: LandmarkerFactory,
        limits: Limits,
        box: Box | None,
        kept: PoseResult | None = None,
        evidence: Callable[[Poses], float] = lambda _: 0.0,
    ) -> None:
        self._kept = kept
        self._evidence = evidence
        self.video = video
        self._factory = landmarkers
        self._limits = limits
        self._size = np.array([video.width, video.height], dtype=float)
        self._box = box
        self._run: WholeClipRun | None = None
        self._open_landmarkers = ExitStack()
        # At the interpreter's exit MediaPipe can no longer close.
        weakref.finalize(self, self._open_landmarkers.close).atexit = False

    def run_whole_clip(self, wanted: Indices, progress: Progress, *, more: bool = False) -> PoseResult:
        """Estimate the athlete in the wanted frames of the whole clip. more: keep the landmarker for a longer call.

        The later call decodes and estimates only the additional frames; its result is that of one call for all frames.
        """
        if self._kept:
            whole = select_frames(self._kept.whole, np.isin(self._kept.whole.times, self.video.times[wanted]))
            return replace(self._kept, wanted=wanted, whole=whole, closeups=[], closeups_with_duplicates=[], windows=[])
        run = self._run
        if not run or not self._can_continue(run, wanted):
            run = self._start()
        self._estimate(run, wanted, progress)
        result = self._result(run)
        if not more:
            self._open_landmarkers.close()
            self._run = None
        return result

    def _result(self, run: WholeClipRun) -> PoseResult:
        """The result of a run so far."""
        known = run.crowd.most_people() if run.crowd else run.people
        people = max(known, run.pose_run.most_people)
        alone = people <= 1 and run.crowd is not None and run.crowd.is_alone
        chosen_by, whole, choose = self._choose(run.pose_run, alone)
        seconds, people_shown = 0.0, tuple[Candidate, ...]()
        if choose.certainty < CLEAR_CHOICE and choose.candidates:
            seconds, people_shown = candidates(choose.candidates[:MOST_PEOPLE], self._size)
        motion = run.camera.motion()
        splices = run.crowd.splices if run.crowd else ()
        return PoseResult(
            run.wanted,
            whole,
            people,
            replace(motion, cuts=tuple(sorted((*motion.cuts, *splices)))),
            chosen_by,
            choose.certainty,
            people_shown,
            seconds,
            lost=run.losses.message,
            resized_seconds=run.losses.resized_seconds,
        )

    def _choose(self, run: PoseRun, alone: bool) -> tuple[str, Poses, AthleteSelector]:
        """How the athlete was chosen, and who: the only person, the one in the box, who acts, or else the largest."""
        width, height = self.video.width, self.video.height
        if alone:
            return "alone", run.poses(width, height, choose_first), AthleteSelector(self._size, largest)
        if self._box:
            choose = AthleteSelector(self._size, nearest_to_box(self._box, self._size))
            return "box", run.poses(width, height, choose), choose
        choose = AthleteSelector(self._size, acting(self._evidence, width, height))
        poses = run.poses(width, height, choose)
        if poses.detected.any():
            return "action", poses, choose
        choose = AthleteSelector(self._size, largest)
        return "size", run.poses(width, height, choose), choose

    def _start(self) -> WholeClipRun:
        """A run for an athlete who is alone until others are found; for all people if the client gave a box.

        With room for more people than it tracks, the model searches every picture for them: so the room is for those
        in view.
        """
        self._open_landmarkers.close()
        stack, factory = self._open_landmarkers, self._factory
        get_detector = cache(lambda: stack.enter_context(factory.create(MOST_PEOPLE, ImageLandmarker)))

        def follow_all(people: int, known: list[tuple[float, Location]], search_at: float) -> PoseEstimator:
            tracking = stack.enter_context(factory.create(min(people, MOST_PEOPLE)))
            return MultiPersonEstimator(tracking, get_detector(), known=known, search_at=search_at)

        if self._box:
            run = WholeClipRun(PoseRun(self._create_multi_person(stack, expect_in_box(self._box, self._size))), None, 2)
        else:
            interval = max(CROWD_CHECK_SECONDS, self.video.duration_seconds / CROWD_CHECKS)
            crowd = CrowdAwareEstimator(stack.enter_context(factory.create()), get_detector, follow_all, interval)
            run = WholeClipRun(PoseRun(crowd), crowd)
        self._run = run
        return run

    def _can_continue(self, run: WholeClipRun, wanted: Indices) -> bool:
        """Whether the run's frames begin the wanted ones, and a new run would give the same poses for them.

        A damaged file may decode differently from the middle.
        """
        undamaged = not (self.video.damage or run.losses.message)
        return undamaged and np.array_equal(run.wanted, wanted[: len(run.wanted)])

    def _estimate(self, run: WholeClipRun, wanted: Indices, progress: Progress) -> None:
        """Continue the run with the wanted frames that it does not have yet."""
        others = wanted[len(run.wanted) :]
        with self._open_pictures(others, run.losses, progress, run.camera.observe) as pictures:
            run.pose_run.estimate(pictures)
        run.wanted = wanted

    def _create_multi_person(self, stack: ExitStack, expected: ExpectedLocation) -> MultiPersonEstimator:
        """An estimator of all people that also searches where the athlete is expected."""
        tracking = stack.enter_context(self._factory.create(MOST_PEOPLE))
        detecting = stack.enter_context(self._factory.create(MOST_PEOPLE, ImageLandmarker))
        return MultiPersonEstimator(tracking, detecting, self._scale_to_pictures(expected))

    def run_close_ups(self, result: PoseResult, windows: list[tuple[float, float]], progress: Progress) -> PoseResult:
        """Add close-ups to the result: every frame of each (start, end) window in seconds, without duplicates."""
        losses, closeups, with_duplicates = Losses(), list[Poses](), list[Poses]()
        alone = result.chosen_by == "alone"
        estimate = self._estimate_alone if alone else partial(self._estimate_among_others, result.whole)
        for i, (start, end) in enumerate(windows):
            if kept := self._kept_close_up(start, end):
                closeups.append(kept[0])
                with_duplicates.append(kept[1])
                continue
            duplicates, wanted = DuplicateDetector(), every(self.video.times, start, end)
            window_progress = part_of(progress, i / len(windows), (i + 1) / len(windows))
            poses = estimate(partial(self._open_pictures, wanted, losses, window_progress), duplicates.observe)
            closeups.append(select_frames(poses, ~duplicates.duplicates()))
            with_duplicates.append(poses)
        lost = result.lost or losses.message
        return replace(result, closeups=closeups, closeups_with_duplicates=with_duplicates, windows=windows, lost=lost)

    def _kept_close_up(self, start: float, end: float) -> tuple[Poses, Poses] | None:
        """The kept close-up of a window, without and with duplicate frames; None if none shows all of it."""
        if self._kept:
            for (a, b), *close_up in zip(
                self._kept.windows, self._kept.closeups, self._kept.closeups_with_duplicates, strict=True
            ):
                if a <= start and end <= b:
                    return close_up[0], close_up[1]
        return None

    def _estimate_alone(self, open_pictures: OpenPictures, observe: Observer) -> Poses:
        """The only person in view, averaged with the flipped pictures."""
        with ExitStack() as landmarkers:
            flip_average = FlipAverage(lambda: landmarkers.enter_context(self._factory.create()))
            with open_pictures(lambda pictures: flip_average.observe(observe(pictures))) as pictures:
                landmarker = landmarkers.enter_context(self._factory.create())
                return estimate_poses(landmarker, pictures, self.video.width, self.video.height, flip_average.choose)

    def _estimate_among_others(self, whole: Poses, open_pictures: OpenPictures, observe: Observer) -> Poses:
        """The athlete of the whole clip, among several people."""
        with ExitStack() as landmarkers, open_pictures(observe) as pictures:
            estimator = self._create_multi_person(landmarkers, expect_athlete(whole))
            choose = AthleteSelector(self._size, nearest_to_athlete(whole))
            return estimate_poses(estimator, pictures, self.video.width, self.video.height, choose)

    @contextmanager
    def _open_pictures(
        self, wanted: Indices, losses: Losses, progress: Progress, observe: Observer
    ) -> Generator[Iterable[Picture], None, None]:
        """The wanted pictures; each is decoded and observed while the model works on the one before."""
        with (
            closing(borrowed_pictures(self.video, wanted, self._limits, losses)) as source,
            prefetch(observe(source)) as pictures,
        ):
            yield _report_progress(pictures, self.video.times[wanted], progress)

    def _scale_to_pictures(self, expected: ExpectedLocation) -> ExpectedLocation:
        """The same location in pixels of the pictures that the model gets, which may be shrunk."""
        scale = fit_size(self.video, LONG_SIDE)[0] / self.video.width

        def scaled(time: float) -> Location | None:
            location = expected(time)
            return location and Location(location.place * scale, location.height * scale)

        return scaled


def split_at_cuts(windows: list[tuple[float, float]], cuts: tuple[float, ...]) -> list[tuple[float, float]]:
    """The windows, split so that each lies within one shot: a jump at a cut would look like the fastest stroke."""
    parts = []
    for start, end in windows:
        edges = [start, *(cut for cut in cuts if start < cut < end), end]
        # The last picture before a cut may lie anywhere in the last step of the sample, so that step is left out.
        spans = [(a, b - CUT_STEP_SECONDS if b != end else b) for a, b in pairwise(edges)]
        parts += [(a, b) for a, b in spans if b - a >= MIN_WINDOW_SECONDS]
    return parts


def _report_progress(pictures: Iterable[Picture], times: Floats, progress: Progress) -> Generator[Picture, None, None]:
    """Pass the pictures through; report progress after each, by its time."""
    span = max(float(times[-1] - times[0]), 1e-9) if len(times) else 1.0
    for picture in pictures:
        yield picture
        progress(min((picture.time_seconds - float(times[0])) / span, 1.0))
