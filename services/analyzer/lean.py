"""MediaPipe without what it plots and records with: importing those takes twice as long as all the rest.

Its vision package imports matplotlib, its audio package sounddevice, at the top of modules that no pose needs. Blank
modules stand in for both while it is imported, and only then: whoever wants the real ones afterwards gets them.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

UNNEEDED = ("matplotlib", "matplotlib.pyplot", "sounddevice")


@contextmanager
def without_extras() -> Iterator[None]:
    """Import MediaPipe inside the block."""
    blanks = {name: ModuleType(name) for name in UNNEEDED if name not in sys.modules}
    for name, blank in blanks.items():
        sys.modules[name] = blank
        parent, _, child = name.rpartition(".")
        if parent in blanks:
            setattr(blanks[parent], child, blank)
    try:
        yield
    finally:
        for name in blanks:
            del sys.modules[name]
