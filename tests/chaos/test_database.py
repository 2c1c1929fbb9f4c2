"""The database of a chaos round, which meets several faults at once."""

from pathlib import Path

import pytest

from testing.chaos.database import database


@pytest.mark.slow
def test_a_full_disk_leaves_room_for_the_clock(tmp_path: Path) -> None:
    """PostgreSQL takes each block that becomes free, so the file of its clock is on another disk."""
    with database(tmp_path) as server:
        if not (server.is_volume and server.has_clock):
            pytest.skip("a full disk needs root, and a clock that leaps libfaketime")
        assert server.clock_file.stat().st_dev != server.data.stat().st_dev
