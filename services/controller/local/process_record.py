"""Stores one launch of this machine as one folder, which is complete before it gets its name.

An ended launch keeps its folder, and so its name, until the launcher's setting says that nothing asks for it any more.

record.json  uid, labels, placement and time of creation
lock         held while the launch lives: the process and its children inherit it, and the kernel releases it with the
             last of them, so that neither a dead controller nor a reused pid is mistaken for life
token        the equivalent of a pod's projected token
tmp/         the process's home and scratch folder
pid          the process group, written by the shell around the process
log          the process's output
exit_code    written by that shell, whether or not the controller lives
deleted      the deletion was requested, at the modification time of this file
"""

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from crease.jobs.v1.job_pb2 import Accelerator
from services import naming
from services.controller.core.launcher import FailureReason, Observed, Phase, Placement

DRAFT = ".draft-"

# The traps keep the shell alive until the process ends; the process itself gets the default signal handlers.
SHELL = f"""
trap : HUP INT TERM
echo $$ >pid.new && mv pid.new pid || exit
"$@" >{naming.LOG_FILE} 2>&1 </dev/null
echo $? >{naming.EXIT_CODE_FILE}.new && mv {naming.EXIT_CODE_FILE}.new {naming.EXIT_CODE_FILE}
"""


@dataclass(frozen=True)
class Record:
    folder: Path

    @contextlib.contextmanager
    def lock(self) -> Iterator[int]:
        """Takes the lock, as a file descriptor that the process inherits."""
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield descriptor
        finally:
            os.close(descriptor)

    def is_locked(self) -> bool:
        """Whether a process of the launch lives. The probe is a shared lock, so that two probes do not conflict."""
        descriptor = os.open(self.folder / "lock", os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def publish(self, name: str) -> "Record | None":
        """Gives a draft its name, atomically; returns None and removes the draft if the name is used."""
        folder = self.folder.with_name(name)
        try:
            self.folder.rename(folder)
        except OSError:
            # rename() never replaces a folder that is not empty; any other error goes to the caller.
            if not (folder / naming.RECORD_FILE).exists():
                raise
            shutil.rmtree(self.folder)
            return None
        return Record(folder)

    def start(self, command: Sequence[str], environment: Mapping[str, str], lock: int) -> subprocess.Popen[bytes]:
        """Starts the process in its own session, so that it gets no signal sent to the controller."""
        return subprocess.Popen(
            ["/bin/sh", "-c", SHELL, "crease-launch", *command],
            cwd=self.folder,
            env=dict(environment),
            pass_fds=[lock],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def observe(self) -> Observed:
        """The state of the launch. The lock is probed first: the exit code is written before its release."""
        is_locked = self.is_locked()
        stored = json.loads((self.folder / naming.RECORD_FILE).read_text())
        exit_code = self._read_number(naming.EXIT_CODE_FILE)
        return Observed(
            name=self.folder.name,
            uid=stored["uid"],
            phase=self._phase(is_locked, exit_code),
            labels=stored["labels"],
            created_at=datetime.fromisoformat(stored["created_at"]),
            placed_on=Accelerator.Value(stored["placed_on"]),
            placement_reason=stored["placement_reason"],
            exit_code=None if is_locked else exit_code,
            failure=None if is_locked else self._failure(exit_code),
        )

    def _phase(self, is_locked: bool, exit_code: int | None) -> Phase:
        if is_locked:
            return Phase.RUNNING if (self.folder / "pid").exists() else Phase.PENDING
        return Phase.SUCCEEDED if exit_code == 0 else Phase.FAILED

    def _failure(self, exit_code: int | None) -> FailureReason | None:
        if (self.folder / naming.DELETED_FILE).exists():
            return FailureReason.DELETED
        if exit_code is not None:
            return None
        return FailureReason.KILLED if (self.folder / "pid").exists() else FailureReason.NEVER_STARTED

    def record_deletion_request(self) -> float:
        """Records that the deletion was requested; returns the seconds since the first request."""
        file = self.folder / naming.DELETED_FILE
        with contextlib.suppress(FileExistsError):
            file.touch(exist_ok=False)
        return time.time() - file.stat().st_mtime

    def signal(self, number: int) -> None:
        """Signals the process group; does nothing if its shell has not written the pid yet."""
        group = self._read_number("pid")
        if group is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, number)

    def remove_secrets(self) -> None:
        """Removes the token and the scratch files of an ended launch; the rest stays, and keeps the name used."""
        (self.folder / "token").unlink(missing_ok=True)
        shutil.rmtree(self.folder / "tmp", ignore_errors=True)

    def remove(self) -> None:
        """Removes the record of an ended launch: its name first, so that no half of a record is ever listed."""
        draft = self.folder.with_name(f"{DRAFT}{uuid.uuid4()}")
        self.folder.rename(draft)
        shutil.rmtree(draft, ignore_errors=True)

    def _read_number(self, file: str) -> int | None:
        try:
            return int((self.folder / file).read_text())
        except FileNotFoundError:
            return None


def create_draft(root: Path, *, labels: Mapping[str, str], placement: Placement, token: str) -> Record:
    """Creates a record without a name."""
    folder = root / f"{DRAFT}{uuid.uuid4()}"
    # Without parents: a missing root must be an error, because an empty new one would say that nothing runs.
    folder.mkdir()
    (folder / "tmp").mkdir()
    with open(os.open(folder / "token", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(token)
    stored = {
        "uid": str(uuid.uuid4()),
        "labels": dict(labels),
        "created_at": datetime.now(UTC).isoformat(),
        "placed_on": Accelerator.Name(placement.on),
        "placement_reason": placement.reason,
    }
    with (folder / naming.RECORD_FILE).open("w") as file:
        file.write(json.dumps(stored))
        file.flush()
        # After a power cut the record is whole or absent.
        os.fsync(file.fileno())
    return Record(folder)


def remove_stale_drafts(root: Path) -> None:
    """Removes the drafts whose creator has died."""
    for folder in root.glob(f"{DRAFT}*"):
        if not (folder / "lock").exists() or not Record(folder).is_locked():
            shutil.rmtree(folder, ignore_errors=True)
