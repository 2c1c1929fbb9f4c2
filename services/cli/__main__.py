"""`crease`: everything on a laptop, and the client of a cluster.

crease up                 runs all services here, until Ctrl-C
crease analyze VIDEO      sends a video, follows its analysis, shows the findings and fetches the report
crease report JOB         shows and fetches the report of an earlier job
crease compare JOB JOB…   shows what changed between analyses of one player, as one page
crease jobs               lists the jobs
crease demo VIDEO         all of it once, in a state folder of its own
crease admin orphans      lists what only S3 or only the database has; for superusers

For operators, also as `kubectl crease …`, which finds the services in a namespace of the cluster by itself:

crease status             counts, the oldest, what fails, GPUs, what the controller sees
crease why JOB            why it is not done yet, what runs for it, what was done and why
crease launches JOB       every launch, and how it ended
crease logs JOB           what its newest run has said
crease cancel JOB         ends it
crease retry JOB…         queues failed jobs again; --code IMAGE: all that failed so
crease drain              launches nothing new and lets run what runs; --undo
crease doctor             looks at database, S3, SQS, rights, clocks, image, GPUs, and says what to do

Exit codes: 0 done, 1 orphans were found or not all is well, 2 usage, 65 bad video, 69 services away, 70 anything else.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from google.protobuf import json_format

from crease.jobs.v1.job_pb2 import GetJobRequest, Job, ListJobsRequest
from services import VERSION
from services.cli.api import client, video_file
from services.cli.api.client import Services
from services.cli.api.resume_state import Notes
from services.cli.commands import analyze, demo, operate, orphans, reports
from services.cli.commands.analyze import Order
from services.cli.errors import FAILED, USAGE, Trouble
from services.cli.laptop import state_dir
from services.cli.runtime import kubernetes
from services.cli.runtime.interface import Place
from services.cli.ui import console
from services.limits import DEFAULT_SAMPLE_FPS, MAX_SAMPLE_FPS, MIN_SAMPLE_FPS
from services.naming import DISCIPLINES

Arguments = argparse.Namespace
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
Run = Callable[[Arguments], int]
CAMERAS = ("side", "front", "behind")
INTERRUPTED = 130
ORPHANS_FOUND = 1


def kubectl() -> int:
    """`kubectl crease`: the same commands, for the services of a namespace."""
    return main(prog="kubectl crease")


def main(arguments: Sequence[str] | None = None, prog: str = "crease") -> int:
    """Runs one command; returns the exit code. No traceback ever reaches the screen unasked."""
    try:
        asked = _parser(prog).parse_args(arguments)
        run: Run = asked.run
        asked.in_cluster = prog != "crease"
        if not asked.in_cluster or run in (_logs, _drain) or client.is_told(os.environ):
            return run(asked)
        with kubernetes.forwarded(kubernetes.Kubectl(*_kubectl(asked))) as endpoints:
            os.environ.update(endpoints)
            return run(asked)
    except Trouble as trouble:
        console.trouble(trouble.sentence)
        return trouble.exit_code
    except KeyboardInterrupt:
        console.trouble(
            "Interrupted. What was queued goes on (`crease jobs`); the same command goes on with an upload."
        )
        return INTERRUPTED
    except BrokenPipeError:
        # Who reads us has seen enough. What is still buffered must not complain at the very end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        console.surprise(error)
        return FAILED


def _parser(prog: str) -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(prog=prog, description="Turns a video of a cricketer into a report.")
    whole.add_argument("--version", action="version", version=f"crease {VERSION}")
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
    _add_operating(commands)
    demonstration = _add(commands, "demo", _demo, "analyse one video from nothing to the report", with_state=False)
    demonstration.add_argument("video", type=Path, metavar="VIDEO")
    demonstration.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR", help="./demo")
    demonstration.add_argument("--state", type=Path, default=demo.STATE, metavar="DIR", help="%(default)s, made anew")
    return whole


def _add(commands: Commands, name: str, run: Run, what: str, *, with_state: bool = True) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=what, description=what.capitalize() + ".")
    command.set_defaults(run=run)
    if with_state:
        folder = state_dir.default_folder()
        command.add_argument("--state", type=Path, default=folder, metavar="DIR", help="state folder (%(default)s)")
        command.add_argument("-n", "--namespace", default="", metavar="NAME", help="of the cluster; the context's")
        command.add_argument("--context", default="", metavar="NAME", help="of the kubeconfig; the current one")
    return command


def _add_operating(commands: Commands) -> None:
    _add(commands, "status", _status, "say how all of it is, on one screen")
    for name, run, what in (
        ("why", _why, "say why a job is not done yet"),
        ("launches", _launches, "list the launches of a job"),
        ("logs", _logs, "show what the newest run of a job has said"),
        ("cancel", _cancel, "end a job"),
    ):
        command = _add(commands, name, run, what)
        command.add_argument("job", metavar="JOB")
        if name == "logs":
            command.add_argument("-f", "--follow", action="store_true", help="go on as it goes on")
    retry = _add(commands, "retry", _retry, "queue failed jobs again")
    which = retry.add_mutually_exclusive_group(required=True)
    which.add_argument("job", metavar="JOB", nargs="*", default=[])
    which.add_argument("--code", default="", metavar="CODE", help="all that failed with it: IMAGE, DEADLINE, …")
    drain = _add(commands, "drain", _drain, "launch nothing new, and let run what runs")
    drain.add_argument("--undo", action="store_true", help="launch again")
    _add(commands, "doctor", _doctor, "look at everything that must be well")


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
    command.add_argument(
        "--sample-fps",
        type=_sample_fps,
        default=0,
        metavar="N",
        help=f"frames a second, {MIN_SAMPLE_FPS} to {MAX_SAMPLE_FPS} ({DEFAULT_SAMPLE_FPS})",
    )
    command.add_argument("--include-frames", action="store_true", help="list every frame in results.json")
    command.add_argument("--json", action="store_true", help="print one JSON object instead of words")
    command.add_argument("--anonymous", action="store_true", help="send no names, show no faces")
    command.add_argument("--out", type=Path, metavar="DIR", help="where the report goes (./crease-report-JOB)")


def _sample_fps(text: str) -> int:
    if not text.isdecimal() or not MIN_SAMPLE_FPS <= int(text) <= MAX_SAMPLE_FPS:
        raise argparse.ArgumentTypeError(f"must be a whole number from {MIN_SAMPLE_FPS} to {MAX_SAMPLE_FPS}")
    return int(text)


def _up(asked: Arguments) -> int:
    # Not imported by the other commands, which also run where only a client is installed.
    from services.cli.commands import up

    return up.up(asked.state, asked.s3_endpoint)


def _analyze(asked: Arguments) -> int:
    if asked.anonymous and (asked.player or asked.title):
        raise Trouble("--anonymous sends no names: leave --player and --title out.", USAGE)
    order = Order(asked.discipline, asked.camera, asked.title, tuple(asked.player), asked.sample_fps,
                  asked.include_frames, asked.anonymous)  # fmt: skip
    video_file.look(asked.video)
    found = client.find(os.environ, asked.state)
    with console.only_json(asked.json), client.connect(found) as services:
        notes = Notes(asked.state.expanduser() / "uploads")
        job = analyze.analyze(services, asked.video, order, notes=notes, largest_bytes=found.largest_video_bytes)
        _show(services, job, asked)
    return 0


def _show(services: Services, job: Job, asked: Arguments) -> None:
    if asked.json:
        reports.deliver_json(services, job, asked.out)
    else:
        console.results(job)
        reports.deliver(services, job, asked.out)


def _report(asked: Arguments) -> int:
    with client.connect(client.find(os.environ, asked.state)) as services:
        job = services.call(services.jobs.GetJob, GetJobRequest(job_id=asked.job))
        reports.check(job)
        _show(services, job, asked)
    return 0


def _compare(asked: Arguments) -> int:
    # Not imported by the other commands: it brings a template engine.
    from services.cli.commands import compare
    from services.cli.ui import compare_page

    with client.connect(client.find(os.environ, asked.state)) as services:
        compared = compare.compare(services, asked.job, asked.out)
    if asked.json:
        console.as_json({"page": str(asked.out), **json_format.MessageToDict(compared)})
        return 0
    console.changes(compared, compare_page.change_words)
    console.report(asked.out)
    reports.open_page(asked.out)
    return 0


def _jobs(asked: Arguments) -> int:
    with client.connect(client.find(os.environ, asked.state)) as services:
        console.jobs(services.call(services.jobs.ListJobs, ListJobsRequest()).jobs)
    return 0


def _orphans(asked: Arguments) -> int:
    with client.connect(client.as_admin(client.find(os.environ, asked.state))) as services:
        return ORPHANS_FOUND if orphans.show_orphans(services) else 0


def _kubectl(asked: Arguments) -> list[str]:
    chosen = {"--namespace": asked.namespace, "--context": asked.context}
    return [f"{name}={value}" for name, value in chosen.items() if value]


def _place(asked: Arguments) -> Place:
    chosen = _kubectl(asked)
    return operate.find_place(asked.state, chosen if asked.in_cluster or chosen else None)


def _status(asked: Arguments) -> int:
    with operate.as_operator(asked.state) as services:
        operate.status(services, _place(asked))
    return 0


def _why(asked: Arguments) -> int:
    with operate.as_operator(asked.state) as services:
        operate.why(services, _place(asked), asked.job)
    return 0


def _launches(asked: Arguments) -> int:
    with operate.as_operator(asked.state) as services:
        operate.launches(services, asked.job)
    return 0


def _logs(asked: Arguments) -> int:
    _place(asked).show_logs(asked.job, follow=asked.follow)
    return 0


def _cancel(asked: Arguments) -> int:
    with operate.as_operator(asked.state) as services:
        operate.cancel(services, asked.job)
    return 0


def _retry(asked: Arguments) -> int:
    with operate.as_operator(asked.state) as services:
        operate.retry(services, asked.job, asked.code)
    return 0


def _drain(asked: Arguments) -> int:
    operate.drain(_place(asked), undo=asked.undo)
    return 0


def _doctor(asked: Arguments) -> int:
    with operate.as_operator(asked.state) as services:
        return operate.UNWELL if operate.doctor(services, _place(asked)) else 0


def _demo(asked: Arguments) -> int:
    return demo.demo(asked.video, asked.out, asked.state)


if __name__ == "__main__":
    sys.exit(main())
