"""The state of an incomplete upload, kept on disk so that the same command resumes it."""

import contextlib
import hashlib
import json
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from services.cli.errors import CommandError


@dataclass(frozen=True)
class ResumeState:
    session_id: str
    # InitiateUpload answers the same request id with the same job.
    request_id: str


class ResumeStates:
    """A folder with one file per incomplete upload. A state's key: the video file as it is now, and `key`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load_or_create(self, video: Path, *key: object, create_session: Callable[[], str]) -> tuple[ResumeState, bool]:
        """The state of this upload, and whether it existed before. Raises CommandError."""
        file = self._file(video, *key)
        with contextlib.suppress(OSError, ValueError, TypeError):
            return ResumeState(**json.loads(file.read_text())), True
        state = ResumeState(create_session(), str(uuid.uuid4()))
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            draft = file.with_suffix(".new")
            draft.write_text(json.dumps(asdict(state)))
            draft.replace(file)
        except OSError as error:
            raise CommandError(f"{self._folder} cannot be written: {error.strerror}.") from None
        return state, False

    def delete(self, video: Path, *key: object) -> None:
        """Deletes the state of an upload that is complete or cannot be resumed."""
        with contextlib.suppress(OSError):
            self._file(video, *key).unlink()

    def _file(self, video: Path, *key: object) -> Path:
        return self._folder / f"{identify(video, *key)}.json"


def identify(video: Path, *key: object) -> str:
    """A name for the video file as it is now, and for `key`."""
    stat = video.stat()
    identity = repr((str(video.resolve()), stat.st_size, stat.st_mtime_ns, key))
    return hashlib.sha256(identity.encode()).hexdigest()[:32]
