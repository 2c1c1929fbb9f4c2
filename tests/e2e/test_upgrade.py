"""Releases come and go while analyses run; none is lost and none restarts."""

from collections.abc import Iterator

import pytest

from tests.e2e.cluster import Release, run, until


@pytest.fixture(scope="module")
def release() -> Iterator[Release]:
    """A release of this file's own: it is upgraded, rolled back and uninstalled."""
    made = Release("tour", values={"analyzer.capacity": "20"})
    made.create_namespace()
    try:
        made.install()
        yield made
    finally:
        made.remove()


def test_twenty_analyses_run_through_an_upgrade_and_a_rollback(release: Release) -> None:
    """Every program is replaced twice under them: each is done after one launch."""
    jobs = release.submit(count=20)
    until(lambda: len(release.get("pods", "--field-selector", "status.phase=Running", "--selector", "app.kubernetes.io/component=analyzer")) >= 5, "five analyses at work")
    before = {pod["metadata"]["uid"] for program in ("jobs", "upload", "controller") for pod in release.pods(program)}
    release.upgrade(**{f"{program}.podAnnotations.season": "spring" for program in ("jobs", "upload", "controller")})
    after = {pod["metadata"]["uid"] for program in ("jobs", "upload", "controller") for pod in release.pods(program) if "deletionTimestamp" not in pod["metadata"]}
    assert not before & after
    release.helm("rollback", release.name, "1", "--wait", "--timeout", "5m")
    done = release.wait(*jobs, seconds=600)
    assert [job["status"] for job in done] == ["JOB_STATUS_DONE"] * 20
    assert [len(release.launches(job_id)) for job_id in jobs] == [1] * 20


def test_uninstall_leaves_nothing(release: Release) -> None:
    """No program, Secret, account, lease, Kubernetes Job of the chart or object with a finalizer stays; CRDs there are none."""
    release.helm("uninstall", release.name, "--wait", "--timeout", "3m")
    kinds = "deployments,pods,services,secrets,serviceaccounts,roles,rolebindings,networkpolicies,poddisruptionbudgets,jobs.batch,leases"
    until(lambda: not _left(release, kinds), "end of the last object", seconds=60)
    assert "crease" not in run("kubectl", "get", "clusterroles,clusterrolebindings,crds", "--output", "name", "--selector", f"app.kubernetes.io/instance={release.name}")


def _left(release: Release, kinds: str) -> list[str]:
    """What is there beside what every namespace has; analyses that have ended go with their TTL."""
    names = [f"{one['kind']}/{one['metadata']['name']}" for one in release.get(kinds)]
    return [name for name in names if not name.startswith("ServiceAccount/default")]
