"""Runs launches as processes of this machine: what a namespace is in Kubernetes is a folder of records here.

Nothing is remembered that is not in the folder: a controller that starts again finds what runs and what has ended.
"""

import asyncio
import contextlib
import os
import re
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from crease.analysis.v1.launch_pb2 import Launch
from crease.jobs.v1.job_pb2 import Accelerator
from services import dev_issuer, naming
from services.controller.core import failpoints
from services.controller.core.failpoints import CrashPoint
from services.controller.core.launcher import Placement, Rejected, Seen, Unknown, check_ours, labels_of, name_of
from services.controller.local import process_record
from services.controller.local.process_record import Record

# As in Kubernetes; here it also keeps a name from being a path.
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
GRACE_SECONDS = 5.0
# While this file lies in the state folder, nothing new is launched.
DRAINED = naming.DRAINED_FILE


class LocalLauncher:
    """`command` is what is started, in the `environment` that a container would get and nothing else."""

    def __init__(
        self, folder: Path, command: Sequence[str], environment: Mapping[str, str], issuer_folder: Path
    ) -> None:
        self._folder = folder / naming.LAUNCHES_FOLDER
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._command = command
        self._environment = environment
        self._issuer = issuer_folder
        # Ours to reap once they have ended; nothing is decided from them.
        self._children: list[subprocess.Popen[bytes]] = []
        # What has ended stays as it is: read once.
        self._ended: dict[str, Seen] = {}
        process_record.sweep(self._folder)

    def now(self) -> datetime:
        """As the seam says."""
        return datetime.now(UTC)

    def is_ready(self) -> bool:
        """As the seam says: there is nobody who could be away."""
        return True

    async def create(self, launch: Launch, placement: Placement) -> Seen:
        """As the seam says. The record takes the name and holds its own lock before anything starts."""
        if not NAME.fullmatch(name_of(launch)):
            raise Rejected(f"{name_of(launch)} is no valid name")
        with _answering():
            return await asyncio.to_thread(self._create, launch, placement)

    async def list(self) -> Sequence[Seen]:
        """As the seam says. One record that cannot be read makes the whole list unknown."""
        with _answering():
            return await asyncio.to_thread(self._list)

    async def look(self, name: str) -> Seen | None:
        """As the seam says."""
        return next((seen for seen in await self.list() if seen.name == name and seen.is_live), None)

    def gpus(self) -> None:
        """As the seam says: a process finds out by itself."""

    async def delete(self, seen: Seen, *, force: bool = False) -> None:
        """As the seam says. SIGTERM first; asked again after GRACE_SECONDS, SIGKILL. A process can be proved gone
        always, so there is nothing to force."""
        with _answering():
            await asyncio.to_thread(self._delete, seen.name, seen.uid)

    async def mark(self, seen: Seen, status: str) -> None:
        """As the seam says: nobody looks at processes."""

    def tell(self, seen: Seen, what: str, why: str) -> None:
        """As the seam says: the log tells it."""

    def _create(self, launch: Launch, placement: Placement) -> Seen:
        made = process_record.draft(
            self._folder,
            labels=labels_of(launch),
            placement=placement,
            token=dev_issuer.pod(self._issuer, f"{name_of(launch)}-{secrets.token_hex(3)[:5]}"),
        )
        with made.lock() as lock:
            failpoints.here(CrashPoint.WRITTEN)
            named = made.publish(name_of(launch))
            if named is None:
                return check_ours(self._look(name_of(launch)))
            failpoints.here(CrashPoint.NAMED)
            command = [*self._command, "--job-id", launch.job_id, "--launch", str(launch.launch_no)]
            self._children.append(named.start(command, self._environment_of(named, launch, placement), lock))
        failpoints.here(CrashPoint.STARTED)
        return named.seen()

    def _environment_of(self, named: Record, launch: Launch, placement: Placement) -> dict[str, str]:
        accelerator = Accelerator.Name(placement.on)
        return {
            **self._environment,
            "CREASE_TOKEN_FILE": str(named.folder / "token"),
            "CREASE_ACCELERATOR": accelerator.removeprefix("ACCELERATOR_").lower(),
            "HOME": str(named.folder / "tmp"),
            "TMPDIR": str(named.folder / "tmp"),
            **({"CREASE_TRACE_PARENT": launch.trace_parent} if launch.trace_parent else {}),
        }

    def _list(self) -> Sequence[Seen]:
        self._children = [child for child in self._children if child.poll() is None]
        names = (name for name in sorted(os.listdir(self._folder)) if not name.startswith(process_record.DRAFT))
        return [seen for seen in map(self._look, names) if seen.is_ours]

    def _look(self, name: str) -> Seen:
        if name in self._ended:
            return self._ended[name]
        found = Record(self._folder / name)
        seen = found.seen()
        if not seen.is_live:
            found.bury()
            self._ended[name] = seen
        return seen

    def _delete(self, name: str, uid: str) -> None:
        if not (self._folder / name).exists():
            return
        seen = self._look(name)
        if not seen.is_live or seen.uid != uid:
            return
        found = Record(self._folder / name)
        seconds = found.mark_deleted()
        failpoints.here(CrashPoint.MARKED)
        found.signal(signal.SIGTERM if seconds < GRACE_SECONDS else signal.SIGKILL)
        failpoints.here(CrashPoint.TOLD)


@contextlib.contextmanager
def _answering() -> Iterator[None]:
    # ValueError and KeyError: a record that somebody wrote into. It is not for us to guess what it said.
    try:
        yield
    except (OSError, ValueError, KeyError, shutil.Error) as error:
        raise Unknown(f"{type(error).__name__}: {error}") from error
