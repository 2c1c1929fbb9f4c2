"""`python -m services.analyzer`: analyse one file alone, or one launch as its pod.

    --video FILE --out DIR [--discipline batting] [--sample-fps 10] [--include-frames] [--quick]
                             [--anonymous]
    --job-id J --launch N            with CREASE_JOBS_ENDPOINT, CREASE_UPLOAD_ENDPOINT, CREASE_TOKEN_FILE

Exit status: 0 done, 2 wrong arguments, 65 bad input, 69 a service stayed away, 75 lease lost, 78 a wrong setting,
70 anything else. Alone, a fault is one sentence on standard error.
"""

import argparse
import gc
import os
import sys
import traceback
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from services import VERSION
from services.limits import DEFAULT_SAMPLE_FPS, MAX_SAMPLE_FPS, MIN_SAMPLE_FPS
from services.naming import DISCIPLINES

if TYPE_CHECKING:
    from services.analyzer.settings import Settings


def main() -> int:
    """Runs what the arguments ask for; returns the exit status."""
    parser = _arguments()
    asked = parser.parse_args()
    if asked.video and not asked.out:
        parser.error("--video needs --out")
    if asked.job_id and asked.launch is None:
        parser.error("--job-id needs --launch")
    # Hardly anything of what is imported is ever garbage: to look for it took a twelfth of the time to the first pose.
    gc.set_threshold(50_000)
    # Threads that a library starts at import would not live through a fork.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    # There are none: to look for some in every installed package takes as long as to import NumPy.
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"
    from services.analyzer.sandbox import client

    client.prepare()
    if asked.video:
        return _alone(asked)
    from services.analyzer.settings import WorkerSettings
    from services.analyzer.worker.worker import work

    return work(asked.job_id, asked.launch, WorkerSettings.load())


def _alone(asked: argparse.Namespace) -> int:
    from services.analyzer.errors import DONE, Fault
    from services.analyzer.settings import Settings

    settings = Settings.load()
    say = _hush_libraries()
    try:
        _analyze(asked, settings)
    except Fault as fault:
        say(fault.sentence)
        return fault.exit_status
    except OSError as error:
        say(f"{error.filename or asked.out}: {error.strerror}")
        return Fault.exit_status
    except Exception:
        say(traceback.format_exc())
        return Fault.exit_status
    return DONE


def _analyze(asked: argparse.Namespace, settings: "Settings") -> None:
    asked.out.mkdir(parents=True, exist_ok=True)
    from services.analyzer.pipeline import Analysis, Order  # MediaPipe takes half a second to import
    from services.analyzer.report.metadata import About

    order = Order(asked.discipline, asked.sample_fps, asked.include_frames, anonymous=asked.anonymous)
    now = datetime.now().astimezone().strftime("%-d %B %Y, %H:%M")
    name = "" if asked.anonymous else asked.video.name
    about = About(discipline=asked.discipline, file_name=name, analysed_at=now)
    analysis = Analysis(asked.video, order, settings, about)
    run = analysis.quick if asked.quick else analysis.deep
    run(asked.out, lambda _: None)


def _hush_libraries() -> Callable[[str], None]:
    """Send what C libraries write to standard error nowhere; returns how to speak to the person instead."""
    screen = os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8")
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    sys.stderr = screen
    return lambda sentence: print(sentence, file=screen)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.analyzer", description="Analyse one cricket video.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--video", type=Path, help="the file to analyse, without any service")
    what.add_argument("--job-id", help="the job whose launch this process is")
    parser.add_argument("--version", action="version", version=f"crease {VERSION}")
    parser.add_argument("--launch", type=int, help="the launch's number, with --job-id")
    parser.add_argument("--out", type=Path, help="the folder for results.json and the other files, with --video")
    parser.add_argument("--discipline", choices=DISCIPLINES, default=DISCIPLINES[0])
    rates = range(MIN_SAMPLE_FPS, MAX_SAMPLE_FPS + 1)
    metavar = f"{MIN_SAMPLE_FPS}..{MAX_SAMPLE_FPS}"
    parser.add_argument("--sample-fps", type=int, choices=rates, metavar=metavar, default=DEFAULT_SAMPLE_FPS)
    parser.add_argument("--include-frames", action="store_true", help="list every looked-at frame in results.json")
    parser.add_argument("--anonymous", action="store_true", help="no file name in the report, no faces in its pictures")
    parser.add_argument("--quick", action="store_true", help="one pass over the first 30 s, provisional")
    return parser


if __name__ == "__main__":
    sys.exit(main())
