"""The laptop as a runtime: reads what `crease up` and the controller keep in the state folder."""

import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import services
from services import naming
from services.cli.errors import CommandError
from services.cli.runtime import pose_model
from services.cli.runtime.interface import Check, RecordedEvent, Run
from services.cli.runtime.prometheus import fetch_metrics

# A video, its artifacts and the scratch files of its analysis.
LEAST_FREE_BYTES = 2 * 10**9
FOLLOW_SECONDS = 0.2


class LaptopRuntime:
    """A Runtime. `folder` is the state folder; `metrics` has each program's metrics endpoint by its name."""

    def __init__(self, folder: Path, metrics: Mapping[str, str]) -> None:
        self._folder = folder
        self._metrics_endpoints = metrics
        self._drained = folder / naming.CONTROLLER_FOLDER / naming.DRAINED_FILE

    def list_runs(self, job_id: str) -> Sequence[Run]:
        """As Runtime: the processes."""
        return [Run(folder.name, *_describe_process(folder)) for folder in self._records(job_id)]

    def list_events(self, job_id: str) -> Sequence[RecordedEvent]:
        """As Runtime: the controller's actions, from its log."""
        found = []
        for line in (self._folder / "logs" / "controller.log").read_text(errors="replace").splitlines():
            if job_id not in line:
                continue
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if why := entry.get("why") or entry.get("error"):
                found.append(RecordedEvent(entry["timestamp"], entry["event"], why))
        return found

    def show_logs(self, job_id: str, *, follow: bool) -> None:
        """As Runtime."""
        records = self._records(job_id)
        if not records:
            raise CommandError(f"No launch of job {job_id} ran here.")
        with (records[-1] / naming.LOG_FILE).open(errors="replace") as log:
            while True:
                if text := log.read():
                    print(text, end="", flush=True)  # noqa: T201 (another program's output)
                elif not follow or (records[-1] / naming.EXIT_CODE_FILE).exists():
                    return
                else:
                    time.sleep(FOLLOW_SECONDS)

    def drained_by(self) -> str:
        """As Runtime: the content of a file, which survives a restart of the controller."""
        try:
            return self._drained.read_text()
        except FileNotFoundError:
            return ""

    def drain(self, drained_by: str) -> None:
        """As Runtime."""
        self._drained.write_text(drained_by)

    def undo_drain(self) -> None:
        """As Runtime."""
        self._drained.unlink(missing_ok=True)

    def read_metrics(self) -> Mapping[str, str]:
        """As Runtime."""
        found = {}
        for program, endpoint in self._metrics_endpoints.items():
            with contextlib.suppress(CommandError):
                found[program] = fetch_metrics(endpoint)
        return found

    def run_checks(self) -> Iterator[Check]:
        """As Runtime: the pose model's file, the free disk space, and the kernel's means to confine a decoder."""
        model = pose_model.find()
        yield Check("model", model.is_file(), str(model), "Run `make setup`, or set MEDIAPIPE_POSE_MODEL_PATH.")
        free = shutil.disk_usage(self._folder).free
        detail = f"{free / 10**9:.1f} GB are free under {self._folder}"
        advice = "Free disk space, or move the state folder with --state."
        yield Check("disk", free >= LEAST_FREE_BYTES, detail, advice)
        yield _check_sandbox()

    def _records(self, job_id: str) -> list[Path]:
        folders = (self._folder / naming.CONTROLLER_FOLDER / naming.LAUNCHES_FOLDER).glob(
            f"{naming.launch_prefix(job_id)}*"
        )
        return sorted(folders, key=lambda folder: int(folder.name.rpartition("-")[2]))


def _check_sandbox() -> Check:
    """Whether the kernel confines the process that decodes a video: tried by a process that ends."""
    command = (sys.executable, "-m", "services.analyzer.sandbox.confinement")
    tried = subprocess.run(command, cwd=Path(services.__file__).parents[1], capture_output=True, text=True, check=False)
    if not tried.returncode:
        return Check("sandbox", True, "the kernel confines the decoder of a video by Landlock and seccomp")
    lack = tried.stderr.strip().rpartition("\n")[2] or f"exit status {tried.returncode}"
    advice = "Analyse only trusted videos here, or enable Landlock (kernel 5.13, lsm=landlock) and seccomp."
    return Check("sandbox", False, f"the kernel does not confine the decoder of a video: it lacks {lack}", advice)


def _describe_process(folder: Path) -> tuple[str, str]:
    """State and detail of a process, from its record (services/controller/local/process_record.py)."""
    created = datetime.fromisoformat(json.loads((folder / naming.RECORD_FILE).read_text())["created_at"])
    since = f"since {created.astimezone():%H:%M:%S %Z}"
    try:
        code = (folder / naming.EXIT_CODE_FILE).read_text().strip()
    except FileNotFoundError:
        return ("Deleting" if (folder / naming.DELETED_FILE).exists() else "Running or killed"), since
    return "Ended", f"{since}, exit code {code}"
