"""One video in, one analysis out.

    probe ─▶ whole clip: decode ─▶ pose ─┬─▶ each action: decode ─▶ pose (deep only) ─┬─▶ measure ─▶ find ─▶ files
                                         └────────────────────────────────────────────┘

Quick looks at the first 30 s at 10 frames a second, once. Deep looks at all of it, then with a fresh landmarker at
every frame around each action, where all events and metrics come from. Only landmarks grow with a video's length.
At 10 frames a second deep's look goes on where quick's stopped; at more, its landmarker must see other frames.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from services.analyzer.artifacts.anonymization import Veil
from services.analyzer.artifacts.results_json import Results, Run, plain, summary
from services.analyzer.cpu_time import spending
from services.analyzer.pose.estimator import Posing
from services.analyzer.pose.landmarks import Poses
from services.analyzer.pose.passes import Progress, Seen, Viewer, growing, share, uncut
from services.analyzer.pose.tracking import Box
from services.analyzer.settings import Settings
from services.analyzer.video.probe import probe
from services.analyzer.video.sampling import Indices, every, on_grid
from services.limits import DEFAULT_SAMPLE_FPS

if TYPE_CHECKING:
    from services.analyzer.report.metadata import About

LEAST_FPS = DEFAULT_SAMPLE_FPS
QUICK_SECONDS = 30.0
OVERLAY_FPS = 30.0


@dataclass(frozen=True)
class Order:
    """What is asked of an analysis. sample_fps: 1 to 30 frames looked at per second of video, never under 10."""

    discipline: str = "batting"
    sample_fps: int = LEAST_FPS
    include_frames: bool = False
    athlete_box: Box | None = None
    # Whether the files show no faces.
    anonymous: bool = False


class Analysis:
    """One video, opened once and analysed in one or two stages; each writes its four files into a folder.

    Raises BadInput for a video that cannot be analysed and ModelFault without a model, both when it is made.
    """

    def __init__(self, source: Path, order: Order, settings: Settings, about: "About") -> None:
        self.order = order
        self.settings = settings
        self.about = about
        self.video = probe(source, settings)
        self.posing = Posing(settings.mediapipe_pose_model_path, settings.accelerator)
        self.viewer = Viewer(self.video, self.posing, settings, order.athlete_box)
        self._seen: Seen | None = None

    def quick(self, out: Path, progress: Progress) -> Results:
        """A provisional answer: one pass over the beginning."""
        run, progress = self._run("quick"), growing(progress)
        wanted = on_grid(self.video.times, LEAST_FPS, end=QUICK_SECONDS)
        with run.timing("pose"):
            more = float(self.video.times[-1]) > QUICK_SECONDS
            self._seen = self.viewer.look(wanted, share(progress, 0.0, 0.8), more=more)
        return self._conclude(self._seen, wanted, run, out, share(progress, 0.8, 1.0))

    def deep(self, out: Path, progress: Progress) -> Results:
        """The whole video, then each action at every frame. What a quick stage looked at already is not posed again."""
        run, progress = self._run("deep"), growing(progress)
        wanted = on_grid(self.video.times, max(LEAST_FPS, self.order.sample_fps))
        seen = self._seen
        if seen is None or not np.array_equal(seen.wanted, wanted):
            with run.timing("pose"):
                seen = self.viewer.look(wanted, share(progress, 0.0, 0.5))
        with run.timing("close_up"):
            from services.analyzer.biomechanics.events import action_windows

            windows = uncut(action_windows(seen.whole, self.order.discipline), seen.steadiness.cuts)
            seen = self.viewer.look_closer(seen, windows, share(progress, 0.5, 0.75))
        drawn = every(self.video.times, 0.0, float(self.video.times[-1]), OVERLAY_FPS)
        return self._conclude(seen, drawn, run, out, share(progress, 0.75, 1.0))

    def _run(self, stage: str) -> Run:
        return Run(stage, self.posing.accelerator, self.posing.reason)

    def _conclude(self, seen: Seen, drawn: Indices, run: Run, out: Path, progress: Progress) -> Results:
        """Landmarks in, files out; returns the results as filed. `drawn` are the frames of the overlay video."""
        # What judges, draws, writes and encodes is not needed for the first pose.
        from services.analyzer.artifacts.frames_parquet import write_frames
        from services.analyzer.artifacts.overlay_video import Label, blend, write_overlay
        from services.analyzer.biomechanics.measurement import measure
        from services.analyzer.coaching.findings import find
        from services.analyzer.coaching.summary import compose
        from services.analyzer.report.key_frames import CAPTIONS, key_frames, stills
        from services.analyzer.report.page import render

        with run.timing("measure"):
            measured = measure(seen.whole, seen.closeups, self.order.discipline)
            findings = find(measured, self.order.discipline)
            report = compose(measured, findings, self.order.discipline)
        posed = blend(seen.whole, seen.shown)
        veil = Veil(posed, alone=seen.people <= 1) if self.order.anonymous else None
        labels = [
            Label(event.time_seconds, CAPTIONS[event.name]) for event in measured.events if event.name in CAPTIONS
        ]
        with run.timing("overlay"), spending("overlay"):
            write_overlay(self.video, posed, drawn, self.settings, out / "overlay.mp4", progress, labels, veil)
        damage = self.video.damage or seen.lost
        said = summary(self.video, seen, damage, self.posing.model)
        pose_summary = {**said, **measured.summary(), "run": run.as_dict()}
        results: Results = plain(
            {
                "pose": {"pose_summary": pose_summary},
                "metrics": {name: metric.as_dict() for name, metric in measured.metrics.items()},
                "findings": findings,
                "report": report,
            }
        )
        pictures_of_it = key_frames(self.video, posed, results, measured.courses, self.settings, veil)
        film = stills(self.video, posed, results, measured.courses, self.settings, veil)
        page = render(results, measured.courses, posed, pictures_of_it, self.about, film)
        (out / "report.html").write_text(page, encoding="utf-8", errors="replace")  # a file's name may be no UTF-8
        write_frames(seen.whole, out / "frames.parquet")
        return self._file(results, seen.whole, out)

    def _file(self, results: Results, whole: Poses, out: Path) -> Results:
        """Write results.json, with frames where they were asked for."""
        if self.order.include_frames:
            from services.analyzer.artifacts.frames_parquet import records

            results = {**results, "pose": {**results["pose"], "frames": plain(records(whole))}}
        text = json.dumps(results, ensure_ascii=False, allow_nan=False)
        (out / "results.json").write_text(text, encoding="utf-8")
        return results
