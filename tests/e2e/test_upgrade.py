"""Upgrades and rollbacks during analyses: no analysis is lost, and none restarts."""

from collections.abc import Iterator

import pytest

from tests.chart.chart import CHART
from tests.e2e.cluster import Answer, Release, in_a_namespace, run, until


@pytest.fixture(scope="module")
def release() -> Iterator[Release]:
    """A release for this file, which upgrades, rolls back and uninstalls it."""
    # A low CPU limit, so that the analyses outlast an upgrade and leave CPU for it.
    values = {"analyzer.capacity": "20", "analyzer.cpu": "20m", "analyzer.cpuLimit": "40m"}
    with in_a_namespace("tour", **values) as made:
        made.install()
        yield made


PROGRAMS = ("jobs", "upload", "controller")
KINDS = (
    "deployments,pods,services,secrets,serviceaccounts,roles,rolebindings,networkpolicies,poddisruptionbudgets,"
    "jobs.batch,leases,configmaps"
)
# Those that every namespace has.
ALWAYS = {"ServiceAccount/default", "ConfigMap/kube-root-ca.crt"}


@pytest.mark.timeout(2400)
def test_twenty_analyses_run_through_an_upgrade_and_a_rollback(release: Release) -> None:
    """Every program is replaced twice; each job is done after one launch."""
    jobs = release.submit(count=20)
    until(lambda: len(running(release)) == 20, "twenty running analyses", seconds=300)
    before = uids(release)
    release.upgrade(**{f"{program}.podAnnotations.season": "spring" for program in PROGRAMS})
    assert not before & uids(release)
    assert running(release), "all analyses finished before the upgrade"
    release.rollback(1)
    done = release.wait(*jobs, seconds=1500)
    assert [job["status"] for job in done] == ["JOB_STATUS_DONE"] * 20
    assert [len(release.launches(job_id)) for job_id in jobs] == [1] * 20


def test_uninstall_leaves_nothing(release: Release) -> None:
    """No object of the chart, no analysis and no Lease remains; the chart has no CRDs."""
    release.submit(count=2)
    until(lambda: running(release), "running analysis")
    release.helm("uninstall", release.name, "--wait", "--timeout", "5m", seconds=330)
    until(lambda: not left(release), "deletion of the last object", seconds=180)
    selector = f"app.kubernetes.io/instance={release.name}"
    beyond = run("kubectl", "get", "clusterroles,clusterrolebindings,crds", "--output", "name", "--selector", selector)
    assert f"/{release.namespace}:" not in beyond


def test_uninstall_needs_no_image(other: Release) -> None:
    """As in a cluster whose registry is down: Kubernetes deletes the analyses with the release, without a pod."""
    other.install()
    other.submit(count=2)
    until(lambda: running(other), "running analysis")
    values = [part for value in ("image.registry=nowhere.invalid", "dev.embedded=true") for part in ("--set", value)]
    other.helm("upgrade", other.name, str(CHART), *values)
    other.helm("uninstall", other.name, "--wait", "--timeout", "5m", seconds=330)
    until(lambda: not left(other), "deletion of the last object", seconds=180)


def test_the_rendered_chart_is_applied_without_helm(other: Release) -> None:
    """`kubectl apply` runs no hook: nothing deletes an analysis, and `kubectl delete` leaves nothing."""
    chart = other.helm("template", other.name, str(CHART), "--skip-tests", *other.options()).encode()
    run("kubectl", "apply", "--filename", "-", stdin=chart)
    other.await_programs()
    (job_id,) = other.submit()
    (job,) = other.wait(job_id)
    assert job["status"] == "JOB_STATUS_DONE", job
    assert len(other.launches(job_id)) == 1
    run("kubectl", "delete", "--wait=false", "--filename", "-", stdin=chart)
    until(lambda: not left(other), "deletion of the last object", seconds=180)


def uids(release: Release) -> set[str]:
    """The uids of all program pods that are not terminating."""
    pods = (pod["metadata"] for program in PROGRAMS for pod in release.pods(program))
    return {pod["uid"] for pod in pods if "deletionTimestamp" not in pod}


def running(release: Release) -> list[Answer]:
    return [pod for pod in release.pods("analyzer") if pod["status"]["phase"] == "Running"]


def left(release: Release) -> list[str]:
    """The remaining objects, without those that every namespace has."""
    names = {f"{one['kind']}/{one['metadata']['name']}" for one in release.get(KINDS)}
    return sorted(names - ALWAYS)
