"""Takes htmx and its extension for server-sent events out of a wheel of django-htmx, and checks their SHA-256.

Usage: python scripts/take_htmx.py WHEEL FOLDER
"""

import hashlib
import sys
import zipfile
from pathlib import Path

# The file in the wheel, its name on the page, its SHA-256.
FILES = (
    ("htmx-4.min.js", "htmx.js", "28fae7bbe8e8142b702debb9d5234a9a436d9435a4b5165b195aa1a7ed840d25"),
    ("ext/hx-sse-4.min.js", "sse.js", "d3aeb71073552b253eaee99badebd60607003b1c25ac567ab88187d6887ab522"),
)


def take(wheel: Path, folder: Path) -> None:
    """Writes the files. Raises SystemExit for a file with other content."""
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        for source, name, expected in FILES:
            content = archive.read(f"django_htmx/static/django_htmx/{source}")
            if hashlib.sha256(content).hexdigest() != expected:
                raise SystemExit(f"{source} of {wheel.name} has another SHA-256 than {expected}")
            (folder / name).write_bytes(content)


if __name__ == "__main__":
    take(Path(sys.argv[1]), Path(sys.argv[2]))
