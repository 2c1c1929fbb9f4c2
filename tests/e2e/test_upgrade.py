"""Releases come and go while analyses run; none is lost and none restarts."""

from collections.abc import Iterator

import pytest

from tests.e2e.cluster import Answer, Release, in_a_namespace, run, until


@pytest.fixture(scope="module")
def release() -> Iterator[Release]:
    """A release of this file's own: it is upgraded, rolled back and uninstalled."""
    # Held to little CPU each, so that they last longer than an upgrade and leave the machine room for one.
    values = {"analyzer.capacity": "20", "analyzer.cpu": "20m", "analyzer.cpuLimit": "40m"}
    with in_a_namespace("tour", **values) as made:
        made.install()
        yield made


PROGRAMS = ("jobs", "upload", "controller")
KINDS = (
    "deployments,pods,services,secrets,serviceaccounts,roles,rolebindings,networkpolicies,poddisruptionbudgets,"
    "jobs.batch,leases"
)


@pytest.mark.timeout(2400)
def test_twenty_analyses_run_through_an_upgrade_and_a_rollback(release: Release) -> None:
    """Every program is replaced twice under them: each is done after one launch."""
    jobs = release.submit(count=20)
    until(lambda: len(at_work(release)) == 20, "twenty analyses at work", seconds=300)
    before = uids(release)
    release.upgrade(**{f"{program}.podAnnotations.season": "spring" for program in PROGRAMS})
    assert not before & uids(release)
    assert at_work(release), "all were done before the upgrade was"
    release.rollback(1)
    done = release.wait(*jobs, seconds=1500)
    assert [job["status"] for job in done] == ["JOB_STATUS_DONE"] * 20
    assert [len(release.launches(job_id)) for job_id in jobs] == [1] * 20


def test_uninstall_leaves_nothing(release: Release) -> None:
    """Of the chart's objects, the analyses, running or ended, and the Lease, none stays; CRDs there are none."""
    release.submit(count=2)
    until(lambda: at_work(release), "analysis at work")
    release.helm("uninstall", release.name, "--wait", "--timeout", "5m", seconds=330)
    until(lambda: not left(release), "end of the last object", seconds=180)
    selector = f"app.kubernetes.io/instance={release.name}"
    beyond = run("kubectl", "get", "clusterroles,clusterrolebindings,crds", "--output", "name", "--selector", selector)
    assert f"/{release.namespace}-" not in beyond


def uids(release: Release) -> set[str]:
    """The pods of all programs that are not ending."""
    pods = (pod["metadata"] for program in PROGRAMS for pod in release.pods(program))
    return {pod["uid"] for pod in pods if "deletionTimestamp" not in pod}


def at_work(release: Release) -> list[Answer]:
    return [pod for pod in release.pods("analyzer") if pod["status"]["phase"] == "Running"]


def left(release: Release) -> list[str]:
    """What is there beside what every namespace has."""
    names = [f"{one['kind']}/{one['metadata']['name']}" for one in release.get(KINDS)]
    return [name for name in names if name != "ServiceAccount/default"]
