"""The checks of a file before the client calls a service."""

import hashlib
from pathlib import Path

import pytest

from services.cli.api.video_file import check, read
from services.cli.errors import BAD_INPUT, USAGE, CommandError


def test_a_video_is_read_once_for_its_checksum_and_length(tmp_path: Path) -> None:
    """SHA-256, length and type are those of the file; the progress ends at its length."""
    content = b"\0\0\0\x14ftypqt  " + bytes(range(256)) * 10_000
    (tmp_path / "Clip.MOV").write_bytes(content)
    progress: list[tuple[int, int]] = []
    video = read(tmp_path / "Clip.MOV", progress=lambda done, whole: progress.append((done, whole)))
    assert video.sha256 == hashlib.sha256(content).hexdigest()
    assert (video.content_type, video.content_length) == ("video/quicktime", len(content))
    assert progress[-1] == (len(content), len(content))


@pytest.mark.parametrize(
    ("name", "content", "words", "exit_code"),
    [
        ("nothing.mp4", None, "There is no file", USAGE),
        ("folder.mp4", "folder", "is a folder", USAGE),
        ("notes.txt", b"x", "it is a text", BAD_INPUT),
        ("film.wmv", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", r"Windows Media video \(WMV\)", BAD_INPUT),
        ("two\nlines\x1b[2J.mp4", b"", "two\N{REPLACEMENT CHARACTER}lines\N{REPLACEMENT CHARACTER}", BAD_INPUT),
        ("empty.mp4", b"", "is empty", BAD_INPUT),
        ("large.mp4", b"x" * 11, "--s3-endpoint", BAD_INPUT),
        ("page.mp4", b"<html>", "it is an HTML page", BAD_INPUT),
    ],
)
def test_a_file_that_cannot_be_sent_is_named(
    tmp_path: Path, name: str, content: bytes | str | None, words: str, exit_code: int
) -> None:
    """One sentence names the fault of the file, before the client sends anything."""
    if content == "folder":
        (tmp_path / name).mkdir()
    elif isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CommandError, match=words) as caught:
        check(tmp_path / name, largest_bytes=10)
    assert caught.value.exit_code == exit_code
