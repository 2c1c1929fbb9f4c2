"""What is remembered of an upload until it is complete, so that the same command goes on where the last one stopped."""

import contextlib
import hashlib
import json
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from services.cli.errors import Trouble


@dataclass(frozen=True)
class Note:
    session_id: str
    # The same id again is the same job.
    request_id: str


class Notes:
    """A folder of them, one file an upload."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def take(self, video: Path, *meant: object, begin: Callable[[], str]) -> tuple[Note, bool]:
        """The note on this file, as it is now and with what was asked for, and whether it was there before.

        `begin` makes the session of a new one. Raises Trouble.
        """
        file = self._file(video, *meant)
        with contextlib.suppress(OSError, ValueError, TypeError):
            return Note(**json.loads(file.read_text())), True
        note = Note(begin(), str(uuid.uuid4()))
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            draft = file.with_suffix(".new")
            draft.write_text(json.dumps(asdict(note)))
            draft.replace(file)
        except OSError as error:
            raise Trouble(f"{self._folder} cannot be written: {error.strerror}.") from None
        return note, False

    def drop(self, video: Path, *meant: object) -> None:
        """Nothing is left to be done for it."""
        with contextlib.suppress(OSError):
            self._file(video, *meant).unlink()

    def _file(self, video: Path, *meant: object) -> Path:
        state = video.stat()
        named = repr((str(video.resolve()), state.st_size, state.st_mtime_ns, meant))
        return self._folder / f"{hashlib.sha256(named.encode()).hexdigest()[:32]}.json"
