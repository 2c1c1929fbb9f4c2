"""`python -m services.analyzer`: analyses one file without services, or one launch as its pod.

    --video FILE --out DIR [--discipline batting] [--sample-fps 10] [--include-frames] [--quick]
                             [--anonymous] [--athlete-box LEFT,TOP,WIDTH,HEIGHT] [--capture-fps FPS]
                             [--event NAME=SECONDS]... [--height-cm CM] [--landmarks FILE]
    --video FILE --probe             prints the film's facts as JSON
    --video FILE --proxy OUT.mp4     writes the film at the size that an analysis needs
    --job-id J --launch N            with CREASE_JOBS_ENDPOINT, CREASE_UPLOAD_ENDPOINT, CREASE_TOKEN_FILE

Exit status: 0 done, 2 wrong arguments, 65 bad input, 69 a service was unavailable, 75 lease lost, 78 a wrong setting,
70 any other failure. Without services, a fault is one sentence on standard error.
"""

import argparse
import gc
import json
import os
import sys
import traceback
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from services import VERSION
from services.naming import DISCIPLINES
from services.rules import options as video_options
from services.rules.limits import DEFAULT_SAMPLE_FPS, MAX_SAMPLE_FPS, MIN_SAMPLE_FPS
from services.rules.printable import one_line

if TYPE_CHECKING:
    from services.analyzer.settings import Settings


def main() -> int:
    """Run the command line; returns the exit status."""
    parser = _create_parser()
    arguments = parser.parse_args()
    if arguments.video and not (arguments.out or arguments.probe or arguments.proxy):
        parser.error("--video needs --out, --probe or --proxy")
    if error := video_options.check_events(arguments.event, arguments.discipline):
        parser.error(error)
    if arguments.job_id and arguments.launch is None:
        parser.error("--job-id needs --launch")
    # Imported modules are hardly ever garbage: searching them took a twelfth of the time to the first pose.
    gc.set_threshold(50_000)
    # A fork does not copy the threads that a library starts at import.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    # There are no plugins, and searching every installed package for them takes as long as importing NumPy.
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"
    from services.analyzer.sandbox import client

    client.fork_server()
    if arguments.video:
        return _analyze_file(arguments)
    from services.analyzer.settings import WorkerSettings
    from services.analyzer.worker.worker import run_launch

    return run_launch(arguments.job_id, arguments.launch, WorkerSettings.load())


def _analyze_file(arguments: argparse.Namespace) -> int:
    from services.analyzer.errors import DONE, Fault
    from services.analyzer.settings import Settings

    settings = Settings.load()
    print_error = _silence_libraries()
    try:
        if arguments.probe or arguments.proxy:
            _look(arguments, settings)
        else:
            _analyze(arguments, settings)
    except Fault as fault:
        print_error(fault.message)
        return fault.exit_status
    except OSError as error:
        print_error(one_line(f"{error.filename or arguments.out}: {error.strerror}"))
        return Fault.exit_status
    except Exception:
        print_error(traceback.format_exc())
        return Fault.exit_status
    return DONE


def _look(arguments: argparse.Namespace, settings: "Settings") -> None:
    """Print the film's facts, or write its proxy; needs no pose model."""
    from services.analyzer.film_notes import film_notes
    from services.analyzer.video.probe import probe

    video = probe(arguments.video, settings, arguments.capture_fps or 0)
    if arguments.proxy:
        from services.analyzer.video.proxy import write_proxy

        write_proxy(video, settings, arguments.proxy)
        return
    facts = {"seconds": video.duration_seconds, "width": video.width, "height": video.height, "fps": video.fps,
             "frames": len(video.pts), "damage": video.damage, "notes": film_notes(video, None)}  # fmt: skip
    print(json.dumps(facts))  # noqa: T201 (a program reads it)


def _analyze(arguments: argparse.Namespace, settings: "Settings") -> None:
    arguments.out.mkdir(parents=True, exist_ok=True)
    from services.analyzer.biomechanics.events import EventName, GivenEvent
    from services.analyzer.pipeline import Analysis, AnalysisOptions  # MediaPipe takes half a second to import
    from services.analyzer.pose.tracking import Box
    from services.analyzer.report.metadata import Metadata
    from services.rules.players import may_be_under_18

    options = AnalysisOptions(
        discipline=arguments.discipline,
        sample_fps=arguments.sample_fps,
        include_frames=arguments.include_frames,
        athlete_box=Box(*arguments.athlete_box) if arguments.athlete_box else None,
        capture_fps=arguments.capture_fps or 0,
        given=tuple(GivenEvent(EventName(name), seconds) for name, seconds in arguments.event),
        anonymous=arguments.anonymous,
    )
    now = datetime.now().astimezone()
    name = "" if arguments.anonymous else one_line(arguments.video.name)
    about = Metadata(
        discipline=arguments.discipline,
        file_name=name,
        analysed_at=now.isoformat(timespec="seconds"),
        height_cm=arguments.height_cm,
        under_18=may_be_under_18(arguments.birth_year, now.year),
    )
    analysis = Analysis(arguments.video, options, settings, about, arguments.landmarks)
    run = analysis.quick if arguments.quick else analysis.deep
    run(arguments.out, lambda _: None)


def _silence_libraries() -> Callable[[str], None]:
    """Discard the standard error of C libraries; returns a function that prints a line for the user."""
    stderr = os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8")
    with open(os.devnull, "w") as devnull:
        os.dup2(devnull.fileno(), 2)
    sys.stderr = stderr
    return lambda line: print(line, file=stderr)


def _create_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.analyzer", description="Analyse one cricket video.")
    parser.add_argument("--version", action="version", version=f"crease {VERSION}")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--video", type=Path, help="the file to analyse, without any service")
    source.add_argument("--job-id", help="the job whose launch this process runs")
    parser.add_argument("--launch", type=int, help="the launch's number, with --job-id")
    parser.add_argument("--out", type=Path, help="the folder for results.json and the other files, with --video")
    parser.add_argument("--discipline", choices=DISCIPLINES, default=DISCIPLINES[0])
    rates, metavar = range(MIN_SAMPLE_FPS, MAX_SAMPLE_FPS + 1), f"{MIN_SAMPLE_FPS}..{MAX_SAMPLE_FPS}"
    parser.add_argument("--sample-fps", type=int, choices=rates, metavar=metavar, default=DEFAULT_SAMPLE_FPS)
    parser.add_argument("--include-frames", action="store_true", help="list every sampled frame in results.json")
    parser.add_argument("--anonymous", action="store_true", help="no file name in the report, no faces in its pictures")
    video_options.add_footage(parser)
    video_options.add_events(parser)
    parser.add_argument("--height-cm", type=video_options.parse_height_cm, metavar="CM", help="the player's height")
    parser.add_argument("--birth-year", type=int, default=0, metavar="YEAR", help="the player's year of birth")
    parser.add_argument("--landmarks", type=Path, metavar="FILE", help="landmarks.npz of an earlier analysis")
    parser.add_argument("--probe", action="store_true", help="print the film's facts as JSON, with --video")
    parser.add_argument("--proxy", type=Path, help="write a smaller film, with --video")
    parser.add_argument("--quick", action="store_true", help="provisional: one pass over the first 30 s")

    return parser


if __name__ == "__main__":
    sys.exit(main())
