"""One launch on this machine is one folder, complete before it has its name, and never removed.

record.json  name, uid, labels, since when
lock         who holds it lives. The process and its children inherit it, and the kernel lets go of it when the last of
             them is gone, so that neither a dead controller nor a reused pid can deceive
token        what a pod's projected token is in Kubernetes
tmp/         its home and scratch space
pid          the process group, written by the shell around the program
log          what the program said
exit_code    written by that shell, whether or not a controller lives
deleted      its end was asked for, since the time of this file
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
from services.controller.core.launcher import Phase, Placement, Reason, Seen

DRAFT = ".draft-"

# The traps keep the shell alive to see the program end; the program itself gets the signals' usual meaning.
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
        """The lock, as a file descriptor that the process to come inherits."""
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield descriptor
        finally:
            os.close(descriptor)

    def is_held(self) -> bool:
        """Whether anything of it lives. The probe is shared: two that probe at once don't take each other for life."""
        descriptor = os.open(self.folder / "lock", os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def publish(self, name: str) -> "Record | None":
        """Gives a draft its name, in one step; None where the name was used before."""
        folder = self.folder.with_name(name)
        try:
            self.folder.rename(folder)
        except OSError:
            # A folder that isn't empty is never replaced; any other error is the caller's to see.
            if not (folder / naming.RECORD_FILE).exists():
                raise
            shutil.rmtree(self.folder)
            return None
        return Record(folder)

    def start(self, command: Sequence[str], environment: Mapping[str, str], lock: int) -> subprocess.Popen[bytes]:
        """Starts the program in a session of its own, so that no signal meant for the controller reaches it."""
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

    def seen(self) -> Seen:
        """What is known of it. Life is asked first: what its end leaves is written before the lock is let go."""
        held = self.is_held()
        known = json.loads((self.folder / naming.RECORD_FILE).read_text())
        exit_code = self._number(naming.EXIT_CODE_FILE)
        return Seen(
            name=self.folder.name,
            uid=known["uid"],
            phase=self._phase(held, exit_code),
            labels=known["labels"],
            created_at=datetime.fromisoformat(known["created_at"]),
            placed_on=Accelerator.Value(known["placed_on"]),
            placement_reason=known["placement_reason"],
            exit_code=None if held else exit_code,
            reason=None if held else self._reason(exit_code),
        )

    def _phase(self, held: bool, exit_code: int | None) -> Phase:
        if held:
            return Phase.RUNNING if (self.folder / "pid").exists() else Phase.PENDING
        return Phase.SUCCEEDED if exit_code == 0 else Phase.FAILED

    def _reason(self, exit_code: int | None) -> Reason | None:
        if (self.folder / naming.DELETED_FILE).exists():
            return Reason.DELETED
        if exit_code is not None:
            return None
        return Reason.KILLED if (self.folder / "pid").exists() else Reason.NEVER_STARTED

    def mark_deleted(self) -> float:
        """Writes down that its end is asked for; the seconds since this was first done."""
        mark = self.folder / naming.DELETED_FILE
        with contextlib.suppress(FileExistsError):
            mark.touch(exist_ok=False)
        return time.time() - mark.stat().st_mtime

    def signal(self, number: int) -> None:
        """To all of its processes; to none where the first of them has not yet said its number."""
        group = self._number("pid")
        if group is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, number)

    def bury(self) -> None:
        """Takes its secret and its scratch files from what has ended; the rest stays, so that the name stays used."""
        (self.folder / "token").unlink(missing_ok=True)
        shutil.rmtree(self.folder / "tmp", ignore_errors=True)

    def _number(self, file: str) -> int | None:
        try:
            return int((self.folder / file).read_text())
        except FileNotFoundError:
            return None


def draft(root: Path, *, labels: Mapping[str, str], placement: Placement, token: str) -> Record:
    """A new record that has no name yet."""
    folder = root / f"{DRAFT}{uuid.uuid4()}"
    # No parents: where the root has vanished, a new and empty one would say that nothing runs.
    folder.mkdir()
    (folder / "tmp").mkdir()
    with open(os.open(folder / "token", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(token)
    known = {
        "uid": str(uuid.uuid4()),
        "labels": dict(labels),
        "created_at": datetime.now(UTC).isoformat(),
        "placed_on": Accelerator.Name(placement.on),
        "placement_reason": placement.reason,
    }
    with (folder / naming.RECORD_FILE).open("w") as file:
        file.write(json.dumps(known))
        file.flush()
        # After a power cut there is either a whole record or none.
        os.fsync(file.fileno())
    return Record(folder)


def sweep(root: Path) -> None:
    """Removes drafts whose maker died."""
    for folder in root.glob(f"{DRAFT}*"):
        if not (folder / "lock").exists() or not Record(folder).is_held():
            shutil.rmtree(folder, ignore_errors=True)
