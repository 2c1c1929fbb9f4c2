"""Analyses one video, from the file to the files of a stage.

    probe ─▶ whole clip: decode ─▶ pose ─┬─▶ each action: decode ─▶ pose (deep only) ─┬─▶ measure ─▶ find ─▶ files
                                         └────────────────────────────────────────────┘

The quick stage runs one pass over the first 30 s at 10 frames a second. The deep stage runs a pass over all of the
video, then a new landmarker over every frame around each action: all events and metrics come from those close-ups.
Memory grows with a video's length only by its landmarks. At 10 frames a second the deep stage continues the quick
stage's pass. At a higher rate it needs other frames, so it starts a new pass.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from services.analyzer.arrays import Floats, Indices
from services.analyzer.artifacts.anonymization import Anonymizer
from services.analyzer.artifacts.landmarks_npz import Origin, read_landmarks, write_landmarks
from services.analyzer.artifacts.result import AnalysisResult, Run, summarize_clip
from services.analyzer.artifacts.results_json import Results, document, plain
from services.analyzer.cpu_time import count_cpu_time
from services.analyzer.errors import BadInput
from services.analyzer.film_notes import (
    ask_who,
    contradict_view,
    describe_film,
    describe_first_look,
    first_look_extent,
)
from services.analyzer.pose.estimator import LandmarkerFactory
from services.analyzer.pose.landmarks import Poses, merge_poses
from services.analyzer.pose.passes import PosePasses, PoseResult, split_at_cuts
from services.analyzer.pose.tracking import Box
from services.analyzer.progress import Progress, monotonic, part_of
from services.analyzer.settings import Settings
from services.analyzer.video.probe import probe
from services.analyzer.video.sampling import every, nearest, on_grid
from services.naming import LANDMARKS, THUMBNAIL
from services.rules.limits import DEFAULT_SAMPLE_FPS

if TYPE_CHECKING:
    from services.analyzer.biomechanics.events import Event, GivenEvent
    from services.analyzer.report.metadata import Metadata

# Publishes results before the last files of their stage are written.
Publish = Callable[[Results], None]
MIN_SAMPLE_FPS = DEFAULT_SAMPLE_FPS
QUICK_SECONDS = 30.0
OVERLAY_FPS = 30.0


@dataclass(frozen=True)
class AnalysisOptions:
    """The client's options. sample_fps: frames per second of the whole-clip pass, 1 to 30; under 10 counts as 10."""

    discipline: str = "batting"
    sample_fps: int = MIN_SAMPLE_FPS
    include_frames: bool = False
    athlete_box: Box | None = None
    # Frames a second at which the camera recorded; 0: as the file says.
    capture_fps: float = 0
    # Moments of actions, which overrule detection.
    given: "tuple[GivenEvent, ...]" = ()
    # Hides faces in all pictures of the files.
    anonymous: bool = False


class Analysis:
    """One video, opened once and analysed in one or two stages; each stage writes its files into a folder.

    The constructor raises BadInput for a video that cannot be analysed, and ModelFault without a pinned model.
    """

    def __init__(
        self,
        source: Path,
        options: AnalysisOptions,
        settings: Settings,
        about: "Metadata",
        landmarks: Path | None = None,
    ) -> None:
        """landmarks: the file that an earlier analysis of this video kept; a frame in it is not estimated again."""
        self.options = options
        self.settings = settings
        self.about = about
        self.video = probe(source, settings, options.capture_fps)
        self._check_given()
        self.landmarkers = LandmarkerFactory(settings.mediapipe_pose_model_path, settings.accelerator)
        sample_fps = max(MIN_SAMPLE_FPS, options.sample_fps)
        model, box = self.landmarkers.model, options.athlete_box
        self._origin = Origin.of(self.video, sample_fps, box, model, options.discipline)
        self._kept = read_landmarks(landmarks, self._origin) if landmarks else None
        self.pose_passes = PosePasses(
            self.video, self.landmarkers, settings, options.athlete_box, self._kept, self._evidence_of_actions
        )
        self._quick_poses: PoseResult | None = None

    def quick(self, out: Path, progress: Progress, *, film: bool = True) -> Results:
        """Write a provisional result, from one pass over the beginning; returns the results.

        film: whether to write an overlay video, which takes longer than all that a coach reads first: so it is left
        to the deep stage if that follows.
        """
        extent = first_look_extent(float(self.video.times[-1]), QUICK_SECONDS)
        run, progress = replace(self._start_run("quick"), followed=not film, extent=extent), monotonic(progress)
        wanted = self._sampled(MIN_SAMPLE_FPS, QUICK_SECONDS)
        with run.timing("pose"):
            more = float(self.video.times[-1]) > QUICK_SECONDS
            self._quick_poses = self._pose_whole_clip(wanted, part_of(progress, 0.0, 0.8), more=more)
        return self._write_files(self._quick_poses, wanted if film else None, run, out, part_of(progress, 0.8, 1.0))

    def deep(self, out: Path, progress: Progress, publish: Publish = lambda _: None) -> Results:
        """Write the final result, from the whole video and each action at every frame; returns the results.

        Frames that the quick stage has estimated are not estimated again. publish: called with the results once all
        that a coach reads is written, before the overlay video is encoded.
        """
        run, progress = self._start_run("deep"), monotonic(progress)
        wanted = self._sampled(max(MIN_SAMPLE_FPS, self.options.sample_fps))
        poses = self._quick_poses
        if poses is None or not np.array_equal(poses.wanted, wanted):
            with run.timing("pose"):
                poses = self._pose_whole_clip(wanted, part_of(progress, 0.0, 0.5))
        with run.timing("close_up"):
            from services.analyzer.biomechanics.action_window import with_given
            from services.analyzer.biomechanics.events import close_up_windows

            cuts = poses.camera_motion.cuts
            windows = close_up_windows(poses.whole, self.options.discipline, cuts)
            windows = with_given(windows, self.options.given, float(self.video.times[-1]))
            windows = split_at_cuts(windows, cuts)
            poses = self.pose_passes.run_close_ups(poses, windows, part_of(progress, 0.5, 0.75))
        drawn = every(self.video.times, 0.0, float(self.video.times[-1]), OVERLAY_FPS)
        return self._write_files(poses, drawn, run, out, part_of(progress, 0.75, 1.0), publish)

    def _pose_whole_clip(self, wanted: Indices, progress: Progress, *, more: bool = False) -> PoseResult:
        """The whole-clip pass. Its cuts are those of the file, those of the pictures, and those of the player alone."""
        poses = self.pose_passes.run_whole_clip(wanted, progress, more=more)
        from services.analyzer.biomechanics.actions.shots import find_cuts

        resized = () if poses.resized_seconds is None else (poses.resized_seconds,)
        cuts = find_cuts(poses.whole, (*self.video.join_seconds, *resized), poses.camera_motion.cuts)
        return replace(poses, camera_motion=replace(poses.camera_motion, cuts=cuts))

    def _sampled(self, fps: float, end: float = float("inf")) -> Indices:
        """The frames of the whole-clip pass; those of the kept landmarks, if there are any."""
        if self._kept is None:
            return on_grid(self.video.times, fps, end=end)
        return self._kept.wanted[self.video.times[self._kept.wanted] <= end]

    def _check_given(self) -> None:
        """Raise BadInput for a moment after the end of the video."""
        for event in self.options.given:
            if event.time_seconds > self.video.duration_seconds:
                message = f"the given {event.name} is at {event.time_seconds:.2f} s"
                raise BadInput("EVENT_AFTER_END", f"{message}; the video ends at {self.video.duration_seconds:.2f} s")

    def _evidence_of_actions(self, poses: Poses) -> float:
        from services.analyzer.biomechanics.events import evidence_of_actions

        return evidence_of_actions(poses, self.options.discipline)

    def _start_run(self, stage: str) -> Run:
        return Run(stage, self.landmarkers.accelerator, self.landmarkers.reason)

    def _write_files(
        self,
        poses: PoseResult,
        drawn: Indices | None,
        run: Run,
        out: Path,
        progress: Progress,
        publish: Publish = lambda _: None,
    ) -> Results:
        """Measure the poses and write the files; returns the results. drawn: the overlay video's frames, None: none."""
        # Imported here, because the first pose needs none of these.
        from services.analyzer.artifacts.frames_parquet import write_frames
        from services.analyzer.artifacts.overlay_video import Label, write_overlay
        from services.analyzer.biomechanics.labels import event_caption
        from services.analyzer.biomechanics.measurement import measure
        from services.analyzer.coaching.findings import find
        from services.analyzer.coaching.summary import compose
        from services.analyzer.report.key_frames import key_frames, people_in_view, stills, thumbnail
        from services.analyzer.report.page import render

        with run.timing("measure"):
            cuts = poses.camera_motion.cuts
            who = ask_who(poses)
            given, known_clock = self.options.given, self.video.capture_fps is not None
            measured = measure(
                poses.whole,
                poses.closeups,
                self.options.discipline,
                given,
                cuts,
                who,
                known_clock=known_clock,
                extent=run.extent,
            )
            measured = describe_first_look(measured) if run.provisional else measured
            measured = contradict_view(measured, self.about.camera_view)
            measured = describe_film(measured, self.video, poses.resized_seconds)
            shown = [nearest(self.video.times, event.time_seconds) for event in measured.events]
            measured = replace(measured, events=_with_frames(measured.events, self.video.times[shown]))
            findings = find(measured, self.options.discipline, under_18=self.about.under_18, first_look=run.provisional)
            report = compose(measured, findings, self.options.discipline)
        posed = merge_poses(poses.whole, poses.closeups_with_duplicates)
        anonymizer = Anonymizer(posed, alone=poses.people <= 1) if self.options.anonymous else None
        damage = self.video.damage or poses.lost
        clip = summarize_clip(self.video, poses, damage, self.landmarkers.model)
        result = AnalysisResult(clip, run, measured, findings, report)
        with run.timing("report"):
            pictures = key_frames(self.video, posed, result, self.settings, anonymizer)
            small = thumbnail(self.video, posed, result, pictures, self.settings, anonymizer)
            if small:
                (out / THUMBNAIL).write_bytes(small)
            still = stills(self.video, posed, result, self.settings, anonymizer)
            pictures = [*people_in_view(self.video, poses, self.settings, anonymizer), *pictures]
            page = render(result, posed, pictures, self.about, still)
            # A file's name in the page may be invalid UTF-8.
            (out / "report.html").write_text(page, encoding="utf-8", errors="replace")
            write_frames(poses.whole, out / "frames.parquet")
            write_landmarks(poses, self._origin, out / LANDMARKS)
        if drawn is not None:
            publish(document(result))
            labels = [
                Label(event.time_seconds, event_caption(event), float(self.video.times[frame]))
                for event, frame in zip(measured.events, shown, strict=True)
            ]
            # A slower film than its source still holds the frame of each event.
            drawn = np.union1d(drawn, np.array(shown, dtype=np.intp))
            film = out / "overlay.mp4"
            with run.timing("overlay"), count_cpu_time("overlay"):
                write_overlay(self.video, posed, drawn, self.settings, film, progress, labels, anonymizer)
        progress(1.0)
        return self._write_results(document(result), poses.whole, out)

    def _write_results(self, results: Results, whole: Poses, out: Path) -> Results:
        """Write results.json, with frames if the client asked for them; returns what it wrote."""
        if self.options.include_frames:
            from services.analyzer.artifacts.frames_parquet import records

            results = {**results, "pose": {**results["pose"], "frames": plain(records(whole))}}
        text = json.dumps(results, ensure_ascii=False, allow_nan=False)
        (out / "results.json").write_text(text, encoding="utf-8")
        return results


def _with_frames(events: "list[Event]", frame_seconds: Floats) -> "list[Event]":
    """The events, each with the time of the frame that shows it."""
    return [replace(event, frame_seconds=float(at)) for event, at in zip(events, frame_seconds, strict=True)]
