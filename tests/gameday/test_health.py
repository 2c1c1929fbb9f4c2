"""A healthy system exposes every metric that alerts and the dashboard query, and fires no alert for an hour.

Then the quickest faults are injected; `make gameday` has all of them.
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

# Exported in a cluster only: testing/cluster has one.
OF_CLUSTERS = {"crease_view_age_seconds"}
HOUR_SECONDS = 3600 / FASTER
# Until the first scrapes have ended and `absent()` has cleared.
SETTLE_SECONDS = 5.0

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def healthy() -> Iterator[Arena]:
    with tempfile.TemporaryDirectory(prefix="crease-health-") as folder:
        Path(folder).chmod(0o711)
        with arena(Path(folder)) as made:
            yield made


def test_a_system_that_works_fires_nothing_for_an_hour_of_load(healthy: Arena) -> None:
    """A minute of the test is an hour in the rules. Two clients send one video after another; every fifth time one of
    them also starts an upload and cancels it."""
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


def test_every_queried_metric_is_exposed(healthy: Arena) -> None:
    """A live system exports every queried metric by name, and an alert or a panel queries every exported one."""
    exposed = healthy.exposed()
    asked = {name for rule in rules().values() for name in METRIC.findall(rule["expr"])}
    asked |= {name for query in dashboard.queries() for name in METRIC.findall(query)}
    families = {name.removesuffix("_bucket").removesuffix("_count") for name in asked}
    assert families - exposed == OF_CLUSTERS
    assert exposed - families == set()


@pytest.mark.parametrize("fault", QUICK, ids=lambda fault: fault.name)
def test_a_fault_fires_its_alerts_is_named_and_is_repaired_by_its_page(healthy: Arena, fault: Fault) -> None:
    """The reading names this fault alone."""
    assert fault.name in play(healthy, fault)
