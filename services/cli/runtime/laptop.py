"""This machine as a place where analyses run: what `crease up` keeps in its state folder."""

import contextlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from services import naming
from services.cli.errors import Trouble
from services.cli.runtime.interface import Check, Run, Told
from services.cli.runtime.prometheus import read_metrics

DRAINED = naming.DRAINED_FILE
# A video, its artifacts and the scratch files of its analysis.
LEAST_FREE_BYTES = 2 * 10**9
FOLLOW_SECONDS = 0.2


class Machine:
    """As `Place` says; `folder` is the state folder, `metrics` where each program exposes its own."""

    def __init__(self, folder: Path, metrics: Mapping[str, str]) -> None:
        self._folder = folder
        self._endpoints = metrics
        self._drained = folder / naming.CONTROLLER_FOLDER / DRAINED

    def runs(self, job_id: str) -> Sequence[Run]:
        """As `Place` says: the processes."""
        return [Run(folder.name, *_state(folder)) for folder in self._records(job_id)]

    def told(self, job_id: str) -> Sequence[Told]:
        """As `Place` says: what the controller did, from its log."""
        found = []
        for line in (self._folder / "logs" / "controller.log").read_text(errors="replace").splitlines():
            if job_id not in line:
                continue
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if why := entry.get("why") or entry.get("error"):
                found.append(Told(entry["timestamp"], entry["event"], why))
        return found

    def show_logs(self, job_id: str, *, follow: bool) -> None:
        """As `Place` says."""
        records = self._records(job_id)
        if not records:
            raise Trouble("Nothing was launched for it here.")
        with (records[-1] / naming.LOG_FILE).open(errors="replace") as log:
            while True:
                if text := log.read():
                    print(text, end="", flush=True)  # noqa: T201 (another program's own words)
                elif not follow or (records[-1] / naming.EXIT_CODE_FILE).exists():
                    return
                else:
                    time.sleep(FOLLOW_SECONDS)

    def drained(self) -> str:
        """As `Place` says: a file, which outlives the controller."""
        try:
            return self._drained.read_text()
        except FileNotFoundError:
            return ""

    def drain(self, why: str) -> None:
        """As `Place` says."""
        if why:
            self._drained.write_text(why)
        else:
            self._drained.unlink(missing_ok=True)

    def metrics(self) -> Mapping[str, str]:
        """As `Place` says."""
        found = {}
        for program, endpoint in self._endpoints.items():
            with contextlib.suppress(Trouble):
                found[program] = read_metrics(endpoint)
        return found

    def checks(self) -> Iterator[Check]:
        """As `Place` says."""
        # Of a laptop only: where this is a client's image, its packages are not there.
        from services.cli.laptop import prerequisites

        model = prerequisites.find_model()
        yield Check("model", model.is_file(), str(model), "Run `make setup`, or set MEDIAPIPE_POSE_MODEL_PATH.")
        free = shutil.disk_usage(self._folder).free
        words = f"{free / 10**9:.1f} GB are free under {self._folder}"
        yield Check("disk", free >= LEAST_FREE_BYTES, words, "Make room, or move the state folder with --state.")

    def _records(self, job_id: str) -> list[Path]:
        folders = (self._folder / naming.CONTROLLER_FOLDER / naming.LAUNCHES_FOLDER).glob(
            f"{naming.launch_prefix(job_id)}*"
        )
        return sorted(folders, key=lambda folder: int(folder.name.rpartition("-")[2]))


def _state(folder: Path) -> tuple[str, str]:
    """How a process is, by what its record says (services/controller/local/process_record.py)."""
    created = datetime.fromisoformat(json.loads((folder / naming.RECORD_FILE).read_text())["created_at"])
    since = f"since {created.astimezone(UTC):%H:%M:%S} UTC"
    try:
        code = (folder / naming.EXIT_CODE_FILE).read_text().strip()
    except FileNotFoundError:
        return ("Deleting" if (folder / naming.DELETED_FILE).exists() else "Running or killed"), since
    return "Ended", f"{since}, exit code {code}"
