"""The video file on the user's disk: checked and described before the client calls a service."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from crease_client.errors import FileError
from crease_client.upload import hash_file
from services import file_signatures
from services.cli.errors import BAD_INPUT, USAGE, CommandError
from services.rules.printable import one_line


@dataclass(frozen=True)
class Video:
    path: Path
    content_type: str
    # Bytes.
    content_length: int
    # Of the whole file, in hex: only the reply to InitiateUpload says whether it is sent in parts.
    sha256: str


def read(path: Path, *, largest_bytes: int = 0, progress: Callable[[int, int], None] = lambda done, all: None) -> Video:
    """Checks a file and computes its SHA-256. `progress` gets the bytes read and all bytes. Raises CommandError."""
    content_type, length = check(path, largest_bytes=largest_bytes)
    try:
        return Video(path, content_type, length, hash_file(path, progress))
    except FileError as error:
        raise CommandError(f"{one_line(str(error))}.", USAGE) from None


def check(path: Path, *, largest_bytes: int = 0) -> tuple[str, int]:
    """The content type and the length in bytes of a possible video; `largest_bytes` 0: no limit.

    Raises CommandError for a file that the client cannot send.
    """
    if path.is_dir():
        raise CommandError(f"{one_line(str(path))} is a folder: name one video file.", USAGE)
    if not path.exists():
        raise CommandError(f"There is no file {one_line(str(path))}.", USAGE)
    if not path.is_file():
        raise CommandError(f"{one_line(str(path))} is not a file.", USAGE)
    length = path.stat().st_size
    if length == 0:
        raise CommandError(f"{one_line(path.name)} is empty.", BAD_INPUT)
    if largest_bytes and length > largest_bytes:
        raise CommandError(
            f"{one_line(path.name)} has {length / 1e9:.1f} GB; the laptop's S3 server accepts videos up to "
            f"{largest_bytes / 1e9:.0f} GB: run `crease up --s3-endpoint URL` with another one.",
            BAD_INPUT,
        )
    head = _read_head(path)
    content_type = file_signatures.content_type(head)
    if not content_type:
        sentence = f"{one_line(path.name)} is not a video that can be analysed: it is {file_signatures.describe(head)}."
        raise CommandError(f"{sentence} Save it as MP4 (H.264) if it is one.", BAD_INPUT)
    return content_type, length


def _read_head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(file_signatures.HEAD_BYTES)
    except OSError as error:
        raise CommandError(f"{one_line(str(path))} cannot be read: {error.strerror}.", USAGE) from None
