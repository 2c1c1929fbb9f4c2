"""`crease`: everything on a laptop, and the client of a cluster.

crease up                 runs all services here, until Ctrl-C
crease analyze VIDEO      sends a video, follows its analysis, shows the findings and fetches the report
crease report JOB         shows and fetches the report of an earlier job
crease compare JOB JOB…   shows what changed between analyses of one player, as one page
crease jobs               lists the jobs
crease demo VIDEO         all of it once, in a state folder of its own
crease admin orphans      lists what only S3 or only the database has; for superusers

Exit codes: 0 done, 1 orphans were found, 2 usage, 65 bad video, 69 services away, 70 anything else.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from google.protobuf import json_format

from crease.jobs.v1.job_pb2 import GetJobRequest, Job, ListJobsRequest
from services.cli import analyze, client, demo, inventory, laptop, reports, show, videos
from services.cli.analyze import Order
from services.cli.client import Services
from services.cli.notes import Notes
from services.cli.trouble import FAILED, USAGE, Trouble

Arguments = argparse.Namespace
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
Run = Callable[[Arguments], int]
DISCIPLINES = ("batting", "bowling", "wicketkeeping", "fielding")
CAMERAS = ("side", "front", "behind")
INTERRUPTED = 130
ORPHANS_FOUND = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code. No traceback ever reaches the screen unasked."""
    try:
        asked = _parser().parse_args(arguments)
        run: Run = asked.run
        return run(asked)
    except Trouble as trouble:
        show.trouble(trouble.sentence)
        return trouble.exit_code
    except KeyboardInterrupt:
        show.trouble("Interrupted. What was queued goes on (`crease jobs`); the same command goes on with an upload.")
        return INTERRUPTED
    except BrokenPipeError:
        # Who reads us has seen enough. What is still buffered must not complain at the very end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        show.surprise(error)
        return FAILED


def _parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(prog="crease", description="Turns a video of a cricketer into a report.")
    commands = whole.add_subparsers(required=True, metavar="COMMAND")
    _add_up(commands)
    _add_analyze(commands)
    report = _add(commands, "report", _report, "show and fetch the report of a job")
    report.add_argument("job", metavar="JOB")
    report.add_argument("--out", type=Path, metavar="DIR", help="where the report goes (./crease-report-JOB)")
    report.add_argument("--json", action="store_true", help="print one JSON object instead of words")
    compare = _add(commands, "compare", _compare, "show what changed between analyses of one player, as one page")
    compare.add_argument("job", metavar="JOB", nargs="+")
    compare.add_argument("--out", type=Path, default=Path("crease-compare.html"), metavar="FILE", help="%(default)s")
    compare.add_argument("--json", action="store_true", help="print one JSON object instead of words")
    _add(commands, "jobs", _jobs, "list the newest jobs")
    admin = commands.add_parser("admin", help="for operators").add_subparsers(required=True, metavar="COMMAND")
    _add(admin, "orphans", _orphans, "list what only S3 or only the database has")
    demonstration = _add(commands, "demo", _demo, "analyse one video from nothing to the report", with_state=False)
    demonstration.add_argument("video", type=Path, metavar="VIDEO")
    demonstration.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR", help="./demo")
    demonstration.add_argument("--state", type=Path, default=demo.STATE, metavar="DIR", help="%(default)s, made anew")
    return whole


def _add(commands: Commands, name: str, run: Run, what: str, *, with_state: bool = True) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=what, description=what.capitalize() + ".")
    command.set_defaults(run=run)
    if with_state:
        folder = laptop.default_folder()
        command.add_argument("--state", type=Path, default=folder, metavar="DIR", help="state folder (%(default)s)")
    return command


def _add_up(commands: Commands) -> None:
    command = _add(commands, "up", _up, "run all services here, until Ctrl-C")
    command.add_argument(
        "--s3-endpoint",
        metavar="URL",
        help="instead of our own S3 server; AWS_… keys and S3_COACH_VIDEOS_BUCKET come from the environment",
    )


def _add_analyze(commands: Commands) -> None:
    command = _add(commands, "analyze", _analyze, "analyse a video")
    command.add_argument("video", type=Path, metavar="VIDEO")
    command.add_argument("--discipline", choices=DISCIPLINES, default=DISCIPLINES[0], help="%(default)s unless given")
    command.add_argument("--camera", choices=CAMERAS, default="", help="where the camera stood")
    command.add_argument("--player", action="append", default=[], metavar="NAME", help="who is seen; may be repeated")
    command.add_argument("--title", default="", help="the file's name unless given")
    command.add_argument("--sample-fps", type=_sample_fps, default=0, metavar="N", help="frames a second, 1 to 30 (10)")
    command.add_argument("--include-frames", action="store_true", help="list every frame in results.json")
    command.add_argument("--json", action="store_true", help="print one JSON object instead of words")
    command.add_argument("--anonymous", action="store_true", help="send no names, show no faces")
    command.add_argument("--out", type=Path, metavar="DIR", help="where the report goes (./crease-report-JOB)")


def _sample_fps(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 30:
        raise argparse.ArgumentTypeError("must be a whole number from 1 to 30")
    return int(text)


def _up(asked: Arguments) -> int:
    # Not imported by the other commands, which also run where only a client is installed.
    from services.cli import up

    return up.up(asked.state, asked.s3_endpoint)


def _analyze(asked: Arguments) -> int:
    if asked.anonymous and (asked.player or asked.title):
        raise Trouble("--anonymous sends no names: leave --player and --title out.", USAGE)
    order = Order(asked.discipline, asked.camera, asked.title, tuple(asked.player), asked.sample_fps,
                  asked.include_frames, asked.anonymous)  # fmt: skip
    videos.look(asked.video)
    found = client.find(os.environ, asked.state)
    with show.only_json(asked.json), client.connect(found) as services:
        notes = Notes(asked.state.expanduser() / "uploads")
        job = analyze.analyze(services, asked.video, order, notes=notes, largest_bytes=found.largest_video_bytes)
        _show(services, job, asked)
    return 0


def _show(services: Services, job: Job, asked: Arguments) -> None:
    if asked.json:
        reports.deliver_json(services, job, asked.out)
    else:
        show.results(job)
        reports.deliver(services, job, asked.out)


def _report(asked: Arguments) -> int:
    with client.connect(client.find(os.environ, asked.state)) as services:
        job = services.call(services.jobs.GetJob, GetJobRequest(job_id=asked.job))
        reports.check(job)
        _show(services, job, asked)
    return 0


def _compare(asked: Arguments) -> int:
    # Not imported by the other commands: it brings a template engine.
    from services.cli import compare, compare_page

    with client.connect(client.find(os.environ, asked.state)) as services:
        compared = compare.compare(services, asked.job, asked.out)
    if asked.json:
        show.as_json({"page": str(asked.out), **json_format.MessageToDict(compared)})
        return 0
    show.changes(compared, compare_page.change_words)
    show.report(asked.out)
    reports.open_page(asked.out)
    return 0


def _jobs(asked: Arguments) -> int:
    with client.connect(client.find(os.environ, asked.state)) as services:
        show.jobs(services.call(services.jobs.ListJobs, ListJobsRequest()).jobs)
    return 0


def _orphans(asked: Arguments) -> int:
    with client.connect(client.as_admin(client.find(os.environ, asked.state))) as services:
        return ORPHANS_FOUND if inventory.show_orphans(services) else 0


def _demo(asked: Arguments) -> int:
    return demo.demo(asked.video, asked.out, asked.state)


if __name__ == "__main__":
    sys.exit(main())
