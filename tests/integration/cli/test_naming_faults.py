"""`crease why` alone names a fault of the cluster, from what a real `jobs` has recorded.

objects of a fault ──▶ observe ──▶ decide ──▶ ConfirmLaunch, EndLaunch ──▶ jobs ──▶ why ──▶ the words that name it
"""

import io
from typing import Any

from crease.analysis.v1 import launch_pb2
from services.cli.api.client import Services
from services.cli.commands import explain
from services.cli.runtime.kubernetes import KubernetesRuntime
from services.controller.core.decide import End
from services.controller.core.launcher import PermanentRejection
from services.controller.kubernetes.api_client import Refusal
from services.controller.kubernetes.launcher import classify_refusal
from testing.fakes.api_server import ApiServer
from testing.fakes.kubectl import FakeKubectl
from tests.integration.cli.test_operating import road, screen, services  # noqa: F401 (fixtures)
from tests.integration.jobs.test_lifecycle import Road
from tests.unit.controller.kubernetes import test_obstacles
from tests.unit.controller.kubernetes.test_endings import ENDED, OUTLIVED, PENDING, RECORDS, decided, observed_in

# The words that name each fault: of those recorded on a real cluster, then of all.
RECORDED = {
    **{name: words for name, (_, words, _) in ENDED.items()},
    **{name: words for name, (_, _, words) in PENDING.items()},
    **{name: words for name, (_, words) in OUTLIVED.items()},
    "quota_on_jobs": "exceeded quota",
    "admission_denied": "denied request",
}
FAULTS = {name: (RECORDS[name], words) for name, words in RECORDED.items()} | test_obstacles.FAULTS
# An operator looks after a minute.
LOOKED_AFTER_SECONDS = 60


def report(road: Road, launch: launch_pb2.Launch, record: Any) -> None:  # noqa: F811 (the fixture)
    """Tells `jobs` of the fault, as the controller does."""
    if "job" not in record:
        rejection = classify_refusal(Refusal(**record))
        road.confirm(launch, "", str(rejection))
        if isinstance(rejection, PermanentRejection):
            road.end(launch, rejection.ending, str(rejection))
        return
    observed = observed_in(record)
    road.confirm(launch, observed.uid, observed.placement_reason)
    for action in decided(observed, LOOKED_AFTER_SECONDS):
        if isinstance(action, End):
            road.end(launch, action.ending, action.why)


def test_why_alone_names_every_fault(road: Road, services: Services, screen: io.StringIO) -> None:  # noqa: F811
    """Also after the cluster has deleted its objects: here it has none."""
    runtime, unnamed = KubernetesRuntime(FakeKubectl(ApiServer())), {}
    for fault, (record, words) in FAULTS.items():
        job_id = road.queued()
        report(road, next(one for one in road.open(len(FAULTS)) if one.job_id == job_id), record)
        screen.truncate(screen.seek(0))
        explain.show_why(services, runtime, job_id)
        if words not in screen.getvalue():
            unnamed[fault] = screen.getvalue()
    assert unnamed == {}
    assert len(FAULTS) >= 60
