"""The product's promises to its users, on a real cluster that enforces the level `restricted`."""

import json
from pathlib import Path
from typing import Any

from testing.data.videos import corpus
from tests.chart.chart import ROOT
from tests.e2e.cluster import Release, until

INTRUDER = ROOT / "tests" / "e2e" / "intruder.py"
ATTACKS = ROOT / "tests" / "unit" / "analyzer" / "sandbox" / "attacks.py"


def test_the_sample_goes_through_a_kubernetes_job_to_a_report(release: Release) -> None:
    """`helm test` sends the sample through every program and downloads its report."""
    output = release.helm("test", release.name, "--timeout", "10m", seconds=660)
    assert "Phase:          Succeeded" in output


def test_a_real_video_is_analysed(release: Release) -> None:
    """A bowler from the corpus: done, with all four parts of the result and the artifacts in S3."""
    video = corpus("bowling/bowl_01_540p.mp4")
    (job_id,) = release.submit(release.give(video))
    (job,) = release.wait(job_id)
    assert job["status"] == "JOB_STATUS_DONE", job
    assert job["results"].keys() == {"pose", "metrics", "findings", "report"}
    assert job["results"]["pose"]["pose_summary"]["detection_rate_percent"] > 80
    assert {one["name"] for one in job["artifacts"]} >= {"report.html", "results.json", "overlay.mp4", "frames.parquet"}
    (report,) = release.ask("artifact", job_id, "report.html")
    assert report["status"] == 200
    assert report["bytes"] > 10_000


def test_kubectl_reads_the_life_of_an_analysis(release: Release) -> None:
    """Each launch has one Kubernetes Job with a status label; each log line of the analyzer has the job's id."""
    (job_id,) = release.submit()
    release.wait(job_id)
    launched = until(
        lambda: [one for one in release.launches(job_id) if one["metadata"]["labels"]["crease.dev/status"] == "done"],
        "Kubernetes Job with the status done",
    )
    assert [one["metadata"]["name"] for one in launched] == [f"analysis-{job_id}-1"]
    log = release.kubectl("logs", f"job/analysis-{job_id}-1").splitlines()
    # MediaPipe writes other lines.
    ours = [json.loads(line) for line in log if line.startswith("{")]
    assert [line["event"] for line in ours] == ["launch_started", "launch_done"]
    assert {line["job_id"] for line in ours} == {job_id}


def test_bad_input_fails_at_once_and_says_why(release: Release, tmp_path: Path) -> None:
    """A truncated video: no second launch, and a sentence for the user."""
    broken = tmp_path / "cut.mp4"
    broken.write_bytes((ROOT / "samples" / "batter.mp4").read_bytes()[:3000])
    (job_id,) = release.submit(release.give(broken))
    (job,) = release.wait(job_id)
    assert job["status"] == "JOB_STATUS_FAILED", job
    assert job["error_message"]
    assert len(release.launches(job_id)) == 1


def test_a_cancelled_job_has_no_pod(release: Release) -> None:
    """The status becomes `cancelled` only after its pods are deleted."""
    (job_id,) = release.submit()
    until(lambda: release.get("pods", "--selector", f"crease.dev/job={job_id}"), "pod")
    release.ask("cancel", job_id)
    (job,) = release.wait(job_id)
    assert job["status"] == "JOB_STATUS_CANCELLED"
    assert release.get("pods", "--selector", f"crease.dev/job={job_id}") == []


def test_two_controllers_at_once_launch_each_job_once(release: Release) -> None:
    """Both replicas run, one holds the Lease, and every job has one Kubernetes Job."""
    release.kubectl("wait", "--for=condition=Available", f"deploy/{release.name}-controller", "--timeout=280s")
    assert len(release.pods("controller")) == 2
    jobs = release.submit(count=4)
    assert {job["status"] for job in release.wait(*jobs)} == {"JOB_STATUS_DONE"}
    assert [len(release.launches(job_id)) for job_id in jobs] == [1] * 4


def test_two_releases_do_not_see_each_other(release: Release, other: Release) -> None:
    """In two namespaces: a release does not know the other's jobs and rejects its tokens."""
    other.install()
    (ours,) = release.submit()
    (theirs,) = other.submit()
    assert {job["status"] for job in (*release.wait(ours), *other.wait(theirs))} == {"JOB_STATUS_DONE"}
    assert other.launches(ours) == []
    assert release.launches(theirs) == []
    token = release.kubectl("create", "token", f"{release.name}-controller", "--audience", "crease").strip()
    assert (calls(release, token), calls(other, token)) == ("OK", "UNAUTHENTICATED")


def test_an_analyzer_pod_has_no_permissions(release: Release) -> None:
    """A pod with its image, account and labels: the API server rejects its token, and its root is read-only."""
    assert run_as_analyzer(release, INTRUDER) == {
        "root": "Read-only file system",
        "api_server": 401,
        "account": "nothing there",
        "capabilities": 0,
        "user": 65532,
    }


def test_a_file_that_takes_over_its_decoder_has_no_power_in_the_pod(release: Release) -> None:
    """The runtime's own seccomp profile allows the confinement, which denies every attack but reading the file."""
    outcomes = run_as_analyzer(release, ATTACKS, "/tmp/attacked", "65532")  # noqa: S108 (the pod's own)
    assert outcomes.pop("memory") == "of the caller"
    assert [attack for attack, outcome in outcomes.items() if outcome == "done"] == ["read_the_video"]


def run_as_analyzer(release: Release, program: Path, *arguments: str) -> dict[str, Any]:
    """What a program prints, as JSON, in a pod with an analyzer's image, account and labels."""
    (job_id,) = release.submit()
    release.wait(job_id)
    (made,) = release.launches(job_id)
    pod = made["spec"]["template"]["spec"]
    container = pod["containers"][0] | {"command": ["python", "-c", program.read_text()], "args": [*arguments]}
    labels = {"app.kubernetes.io/component": "analyzer"}
    intruder = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "intruder", "labels": labels},
        "spec": pod | {"containers": [container]},
    }
    release.kubectl("apply", "--filename", "-", stdin=json.dumps(intruder).encode())
    try:
        release.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/intruder", "--timeout=280s")
        found: dict[str, Any] = json.loads(release.kubectl("logs", "intruder"))
    finally:
        release.kubectl("delete", "pod", "intruder")
    return found


CALL = """
import os, sys
import grpc
from crease.analysis.v1 import launch_pb2, launch_pb2_grpc
stub = launch_pb2_grpc.LaunchServiceStub(grpc.insecure_channel(os.environ["CREASE_JOBS_ENDPOINT"]))
try:
    stub.ListLaunches(launch_pb2.ListLaunchesRequest(cluster=sys.argv[1]), metadata=[("authorization", sys.argv[2])])
    print("OK")
except grpc.RpcError as error:
    print(error.code().name)
"""


def calls(release: Release, token: str) -> str:
    """The status code of a controller's call to the release's `jobs` with a token."""
    program = ("exec", "--stdin", f"deploy/{release.name}-trial", "--", "python", "-")
    command = (*program, f"{release.namespace}-{release.name}", f"Bearer {token}")
    return release.kubectl(*command, stdin=CALL.encode()).strip()
