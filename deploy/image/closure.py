"""Copies files and the shared libraries that they load into a new root, each at its own path.

    python3 closure.py ROOT BASE PATH...       skips files that BASE contains; a PATH is a file or a folder

A program needs a fraction of a distribution; each missing file is one less for an intruder.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

LIBRARY = re.compile(r"^\s*(?:\S+ => )?(/\S+) \(0x", re.MULTILINE)
MISSING = re.compile(r"^\s*(\S+) => not found", re.MULTILINE)


def main() -> None:
    root, base, *paths = map(Path, sys.argv[1:])
    for path in paths:
        for file in files(path):
            copy(file, root, base)


def files(path: Path) -> Iterator[Path]:
    """The path itself, or all files and links below a folder."""
    if path.is_dir() and not path.is_symlink():
        yield from (found for found in sorted(path.rglob("*")) if found.is_symlink() or not found.is_dir())
    else:
        yield path


def copy(source: Path, root: Path, base: Path) -> None:
    """Copies a file with its libraries, or a link with its target. A linked folder (/lib) becomes a real folder."""
    place = source.parent.resolve() / source.name
    target = root / place.relative_to("/")
    if not place.is_relative_to(root):
        if os.path.lexists(target) or os.path.lexists(base / place.relative_to("/")):
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(place, target, follow_symlinks=False)
    if place.is_symlink():
        copy(place.parent / os.readlink(place), root, base)
    else:
        for library in libraries(place, root):
            # The root already contains the libraries of a wheel.
            if not library.resolve().is_relative_to(root):
                copy(library, root, base)


def libraries(path: Path, root: Path) -> list[Path]:
    """The libraries that the dynamic loader would load for the file; empty if it is not an ELF file."""
    with path.open("rb") as file:
        if file.read(4) != b"\x7fELF":
            return []
    output = subprocess.run(["ldd", path], capture_output=True, text=True, check=False).stdout
    for missing in MISSING.findall(output):
        # A wheel may contain the library under a longer name and load it before this file.
        if not any(root.rglob(f"{missing.partition('.')[0]}*")):
            raise SystemExit(f"{path} needs {missing}, which is not in the image")
    return [Path(found) for found in LIBRARY.findall(output)]


if __name__ == "__main__":
    main()
