"""Runs launches as processes of this machine: a folder of records takes the place of a Kubernetes namespace.

The state is rebuilt from the folder after a restart.
"""

import asyncio
import contextlib
import os
import re
import secrets
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from crease.analysis.v1.launch_pb2 import Launch
from services import dev_issuer, naming
from services.controller.core import failpoints
from services.controller.core.failpoints import CrashPoint
from services.controller.core.launcher import (
    Observed,
    PermanentRejection,
    Placement,
    Unknown,
    accelerator_word,
    check_ours,
    labels_of,
    name_of,
)
from services.controller.local import process_record
from services.controller.local.process_record import Record

# The pattern of Kubernetes names; here it also keeps a name from being a path.
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
GRACE_SECONDS = 5.0


class LocalLauncher:
    """A Launcher. `command` starts the analyzer; `environment` is its whole environment, as a container's would be.

    `keep`: the record of an ended launch is removed this long after its creation; None: never.
    """

    def __init__(
        self,
        folder: Path,
        command: Sequence[str],
        environment: Mapping[str, str],
        issuer_folder: Path,
        *,
        keep: timedelta | None = None,
    ) -> None:
        self._folder = folder / naming.LAUNCHES_FOLDER
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._command = command
        self._environment = environment
        self._issuer_folder = issuer_folder
        self._keep = keep
        # Each call runs in a thread of its own; one at a time uses what follows.
        self._lock = threading.Lock()
        # To be reaped once they have ended; no decision depends on them.
        self._children: list[subprocess.Popen[bytes]] = []
        # The state of ended launches, which never changes, by name.
        self._ended: dict[str, Observed] = {}
        process_record.remove_stale_drafts(self._folder)

    def now(self) -> datetime:
        """As Launcher."""
        return datetime.now(UTC)

    def is_ready(self) -> bool:
        """As Launcher: always, because the records are local."""
        return True

    async def create(self, launch: Launch, placement: Placement) -> Observed:
        """As Launcher. The record takes the name and holds its own lock before the process starts."""
        if not NAME.fullmatch(name_of(launch)):
            raise PermanentRejection(f"{name_of(launch)} is not a valid name")
        with _error_as_unknown():
            return await asyncio.to_thread(self._create, launch, placement)

    async def list(self) -> Sequence[Observed]:
        """As Launcher. One unreadable record makes the whole list unknown."""
        with _error_as_unknown():
            return await asyncio.to_thread(self._list)

    async def get(self, name: str) -> Observed | None:
        """As Launcher."""
        return next((one for one in await self.list() if one.name == name and one.is_live), None)

    def gpus(self) -> None:
        """As Launcher: the process finds a GPU by itself."""

    async def delete(self, observed: Observed, *, force: bool = False) -> None:
        """As Launcher: SIGTERM; on a request after GRACE_SECONDS, SIGKILL. `force` changes nothing: the lock always
        proves the end."""
        with _error_as_unknown():
            await asyncio.to_thread(self._delete, observed.name, observed.uid)

    async def set_status_label(self, observed: Observed, status: str) -> None:
        """As Launcher: processes have no labels."""

    def record_event(self, observed: Observed, reason: str, message: str) -> None:
        """As Launcher: the log has every action already."""

    def _create(self, launch: Launch, placement: Placement) -> Observed:
        draft = process_record.create_draft(
            self._folder,
            labels=labels_of(launch),
            placement=placement,
            token=dev_issuer.pod(self._issuer_folder, f"{name_of(launch)}-{secrets.token_hex(3)[:5]}"),
        )
        with draft.lock() as lock:
            failpoints.hit(CrashPoint.RECORD_WRITTEN)
            record = draft.publish(name_of(launch))
            if record is None:
                with self._lock:
                    return check_ours(self._observe(name_of(launch)))
            failpoints.hit(CrashPoint.RECORD_NAMED)
            command = [*self._command, "--job-id", launch.job_id, "--launch", str(launch.launch_no)]
            child = record.start(command, self._environment_of(record, launch, placement), lock)
            with self._lock:
                self._children.append(child)
        failpoints.hit(CrashPoint.PROCESS_STARTED)
        return record.observe()

    def _environment_of(self, record: Record, launch: Launch, placement: Placement) -> dict[str, str]:
        return {
            **self._environment,
            "CREASE_TOKEN_FILE": str(record.folder / "token"),
            "CREASE_ACCELERATOR": accelerator_word(placement.on),
            "HOME": str(record.folder / "tmp"),
            "TMPDIR": str(record.folder / "tmp"),
            **({"CREASE_TRACE_PARENT": launch.trace_parent} if launch.trace_parent else {}),
        }

    def _list(self) -> Sequence[Observed]:
        with self._lock:
            self._children = [child for child in self._children if child.poll() is None]
            self._remove_old()
            names = (name for name in sorted(os.listdir(self._folder)) if not name.startswith(process_record.DRAFT))
            return [observed for observed in map(self._observe, names) if observed.is_ours]

    def _remove_old(self) -> None:
        """Removes old records that an earlier list showed as ended, so that the controller has classified them."""
        if self._keep is None:
            return
        before = self.now() - self._keep
        for name in [name for name, observed in self._ended.items() if observed.created_at < before]:
            Record(self._folder / name).remove()
            del self._ended[name]

    def _observe(self, name: str) -> Observed:
        if name in self._ended:
            return self._ended[name]
        record = Record(self._folder / name)
        observed = record.observe()
        if not observed.is_live:
            record.remove_secrets()
            self._ended[name] = observed
        return observed

    def _delete(self, name: str, uid: str) -> None:
        if not (self._folder / name).exists():
            return
        with self._lock:
            observed = self._observe(name)
        if not observed.is_live or observed.uid != uid:
            return
        record = Record(self._folder / name)
        seconds = record.record_deletion_request()
        failpoints.hit(CrashPoint.DELETION_RECORDED)
        record.signal(signal.SIGTERM if seconds < GRACE_SECONDS else signal.SIGKILL)
        failpoints.hit(CrashPoint.DELETION_REQUESTED)


@contextlib.contextmanager
def _error_as_unknown() -> Iterator[None]:
    # ValueError and KeyError: a record that was edited by hand.
    try:
        yield
    except (OSError, ValueError, KeyError, shutil.Error) as error:
        raise Unknown(f"{type(error).__name__}: {error}") from error
