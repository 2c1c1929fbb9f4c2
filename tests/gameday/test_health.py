"""A system that is well: what it exposes is all that alerts and dashboard ask for, and no alert fires for an hour.

Then it is broken, in a few ways that take seconds; `make gameday` has them all.
"""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts import dashboard
from tests.alerts.rules import METRIC, rules
from tests.gameday.arena import Arena, arena
from tests.gameday.faults import QUICK, Fault
from tests.gameday.playing import play
from tests.gameday.prometheus import FASTER

# Told of a cluster only: testing/cluster has one.
OF_CLUSTERS = {"crease_view_age_seconds"}
HOUR_SECONDS = 3600 / FASTER
# Until the first scrapes are in, and what was absent is there.
SETTLE_SECONDS = 5.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def healthy() -> Iterator[Arena]:
    with tempfile.TemporaryDirectory(prefix="crease-health-") as folder:
        Path(folder).chmod(0o711)
        with arena(Path(folder)) as made:
            yield made


def test_a_system_that_works_fires_nothing_for_an_hour_of_load(healthy: Arena) -> None:
    """A minute here is an hour by the rules. Two coaches send a video after the other, each when the last one is done;
    one of them now and then begins an upload and thinks better of it."""
    healthy.until(healthy.prometheus.scraped, "the first scrapes")
    time.sleep(SETTLE_SECONDS)
    ends, fired, sent = time.monotonic() + HOUR_SECONDS, set[str](), 0
    while time.monotonic() < ends:
        if healthy.sql("SELECT count(*) < 2 FROM video_analysis_jobs WHERE status NOT IN ('done', 'cancelled')") == [
            (True,)
        ]:
            healthy.queued()
            sent += 1
            if sent % 5 == 0:
                healthy.crease("cancel", healthy.product.initiate(10).job_id)
        time.sleep(0.2)
        fired |= healthy.prometheus.firing().keys()
    assert fired == set()
    assert healthy.prometheus.broken() == []
    healthy.until(healthy.all_done, "the last jobs")
    assert sent > 0
    assert healthy.sql("SELECT count(*) FROM video_analysis_jobs WHERE status = 'done'") == [(sent,)]


def test_every_metric_that_is_asked_for_is_exposed(healthy: Arena) -> None:
    """By a live system, under that very name; and every metric of ours is asked for by somebody."""
    exposed = healthy.exposed()
    asked = {name for rule in rules().values() for name in METRIC.findall(rule["expr"])}
    asked |= {name for query in dashboard.queries() for name in METRIC.findall(query)}
    families = {name.removesuffix("_bucket").removesuffix("_count") for name in asked}
    assert families - exposed == OF_CLUSTERS
    assert exposed - families == set()


@pytest.mark.parametrize("fault", QUICK, ids=lambda fault: fault.what)
def test_what_breaks_fires_its_alerts_is_named_and_is_repaired_by_its_page(healthy: Arena, fault: Fault) -> None:
    """By what is read alone, and by nothing that fits another fault."""
    assert fault.what in play(healthy, fault)
