"""Copies files and the shared libraries that they load into a new root, each at its own path, and nothing else.

    python3 closure.py ROOT BASE PATH...       what lies in BASE already is left out; a PATH is a file or a whole folder

What a program needs in order to run is a fraction of a distribution, and what isn't there helps no intruder.
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
    """The path itself, or every file and link below it."""
    if path.is_dir() and not path.is_symlink():
        yield from (found for found in sorted(path.rglob("*")) if found.is_symlink() or not found.is_dir())
    else:
        yield path


def copy(source: Path, root: Path, base: Path) -> None:
    """One file with its libraries; a link with what it points to. A folder that is a link (/lib) becomes a real one."""
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
            # What a wheel brings itself lies in the root already.
            if not library.resolve().is_relative_to(root):
                copy(library, root, base)


def libraries(path: Path, root: Path) -> list[Path]:
    """What the dynamic loader would load for the file; nothing for one that is no program and no library."""
    with path.open("rb") as file:
        if file.read(4) != b"\x7fELF":
            return []
    said = subprocess.run(["ldd", path], capture_output=True, text=True, check=False).stdout
    for missing in MISSING.findall(said):
        # A wheel may bring one under a longer name, which it has loaded by the time this file is.
        if not any(root.rglob(f"{missing.partition('.')[0]}*")):
            raise SystemExit(f"{path} needs {missing}, which is not here")
    return [Path(found) for found in LIBRARY.findall(said)]


if __name__ == "__main__":
    main()
