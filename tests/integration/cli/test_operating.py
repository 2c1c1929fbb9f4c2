"""`crease status`, `why` and the others, on the real programs of a laptop; what a live system exposes, alerts can ask for."""

from collections.abc import Iterator
from pathlib import Path

import pytest

