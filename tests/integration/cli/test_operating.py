"""The operator's commands on a real `jobs`, with a fake cluster or the records of a laptop as the runtime."""

import copy
import io
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from crease.analysis.v1 import launch_pb2
from crease.jobs.v1 import job_pb2
from services import dev_issuer
from services.cli.api import client
from services.cli.api.client import Services
from services.cli.api.endpoints import Endpoints
from services.cli.commands import doctor, explain, jobs, status
from services.cli.errors import CommandError
from services.cli.runtime.kubectl import forward_services
from services.cli.runtime.kubernetes import QUEUE_RIGHTS, RIGHTS, KubernetesRuntime
from services.cli.runtime.laptop import LaptopRuntime
from services.cli.ui import console
from services.upload.s3 import cors
from testing.fakes.api_server import ApiServer
from testing.fakes.kubectl import FakeKubectl
from testing.servers.kubernetes import ROLE
from testing.servers.programs import ROOT, Laptop, Program
from testing.servers.s3 import ministack
from tests.gameday import signs
from tests.integration.jobs.test_lifecycle import Road


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    out = io.StringIO()
    monkeypatch.setattr(console, "OUT", Console(file=out, highlight=False, markup=False, width=console.PIPE_WIDTH))
    return out


@pytest.fixture
def road(shared_jobs: Program, laptop: Laptop, empty: str) -> Road:
    return Road(shared_jobs.endpoint, laptop)


@pytest.fixture
def services(shared_jobs: Program, laptop: Laptop, tmp_path: Path) -> Iterator[Services]:
    """As a superuser, as doctor and status connect, without an upload service."""
    token = tmp_path / "token"
    token.write_text(dev_issuer.person(laptop.folder, "sre", role="superuser"))
    with client.connect(Endpoints(shared_jobs.endpoint, "127.0.0.1:1", str(token)), retries=False) as connected:
        yield connected


@pytest.fixture
def kubectl() -> FakeKubectl:
    """A namespace with a controller, its Lease and one node."""
    fake = FakeKubectl(ApiServer())
    fake.server.make("leases", {"metadata": {"name": "crease-controller"}, "spec": {}})
    env = [{"name": "CREASE_ANALYZER_IMAGE", "value": "registry/analyzer:1"},
            {"name": "CREASE_CLUSTER", "value": "nets"},
            {"name": "CREASE_GPU_RESOURCE", "value": "nvidia.com/gpu"},
            {"name": "CREASE_GPU_NODE_SELECTOR", "value": '{"pool": "gpu"}'}]  # fmt: skip
    pod = {"serviceAccountName": "crease-controller", "containers": [{"env": env}]}
    labels = {"app.kubernetes.io/name": "crease", "app.kubernetes.io/component": "controller"}
    metadata = {"name": "crease-controller", "namespace": "nets", "labels": labels}
    spec = {"replicas": 2, "template": {"spec": pod}}
    fake.others["deployments"] = [{"metadata": metadata, "spec": spec, "status": {"readyReplicas": 2}}]
    add_node(fake, gpus="1")
    fake.others["node leases"] = [{"metadata": {"name": "n1"}, "spec": {"renewTime": fake.server.now}}]
    return fake


def add_node(fake: FakeKubectl, *, gpus: str) -> None:
    allocatable = {"nvidia.com/gpu": gpus} if gpus else {}
    metadata = {"name": "n1", "labels": {"pool": "gpu"}}
    fake.server.objects["nodes"].clear()
    fake.server.make("nodes", {"metadata": metadata, "spec": {}, "status": {"allocatable": allocatable}})


def run_in(fake: FakeKubectl, job_id: str, waiting: dict[str, str] | None = None) -> str:
    """Makes a Kubernetes Job and its pod, as the controller does."""
    name = f"analysis-{job_id}-1"
    labels = {"crease.dev/job": job_id, "app.kubernetes.io/component": "analyzer", "crease.dev/cluster": "nets"}
    fake.server.starts_pods = False
    job = fake.server.make("jobs", {"metadata": {"name": name, "labels": labels}, "spec": {}})
    owner = {"uid": job["metadata"]["uid"], "controller": True}
    state = {"containerStatuses": [{"name": "analyzer", "state": {"waiting": waiting}}]} if waiting else {}
    metadata = {"name": f"{name}-abcde", "labels": labels, "ownerReferences": [owner]}
    status = {"phase": "Pending" if waiting else "Running", **state}
    fake.server.make("pods", {"metadata": metadata, "spec": {"nodeName": "n1", "containers": []}, "status": status})
    return name


def test_why_shows_what_jobs_recorded_and_what_the_cluster_reports(
    road: Road, services: Services, kubectl: FakeKubectl, screen: io.StringIO
) -> None:
    """The explanation, the wait, the pod with its error, and the controller's action."""
    job_id = road.queued()
    road.confirm(road.open()[0])
    name = run_in(kubectl, job_id, {"reason": "ImagePullBackOff", "message": "no such tag"})
    event = {"metadata": {"name": "e1"}, "involvedObject": {"name": name}, "reason": "Created",
             "message": "The launch is open", "lastTimestamp": "2026-11-21T13:00:00Z"}  # fmt: skip
    kubectl.server.make("events", event)
    explain.show_why(services, KubernetesRuntime(kubectl), job_id)
    shown = screen.getvalue()
    assert "Launch 1 in c1 was created and has not started yet." in shown
    assert "It waits for room to run, since 2" in shown
    assert f"job/{name}  Open\n" in shown
    assert f"pod/{name}-abcde  Pending  on n1, ImagePullBackOff: no such tag" in shown
    assert "2026-11-21 13:00:00 UTC  Created  The launch is open" in shown


def test_launches_shows_the_ending_and_retry_queues_the_job_again(
    road: Road, services: Services, screen: io.StringIO
) -> None:
    """--code queues every job that failed with this code, and no other."""
    job_id = road.queued()
    launch = road.open()[0]
    road.confirm(launch)
    road.end(launch, launch_pb2.ENDING_IMAGE, "ErrImagePull: no such tag")
    other = road.queued()
    explain.show_launches(services, job_id)
    assert "image, 2" in screen.getvalue()
    assert "ErrImagePull: no such tag" in screen.getvalue()
    jobs.retry(services, [], "DEADLINE")
    assert road.status(job_id) == "failed"
    jobs.retry(services, [], "IMAGE")
    assert (road.status(job_id), road.status(other)) == ("queued", "queued")
    jobs.cancel(services, job_id)
    assert road.status(job_id) == "cancelled"


def test_status_is_one_screen_from_the_programs_metrics(
    road: Road, services: Services, kubectl: FakeKubectl, screen: io.StringIO
) -> None:
    """From the pods with a metrics port; a pod that does not answer is omitted."""
    for name, text in (
        ("jobs-a", 'crease_jobs{status="queued"} 7.0\ncrease_oldest_job_age_seconds{status="queued"} 42.5\n'),
        ("controller-a", 'crease_leader 1.0\ncrease_gpus_free 2.0\ncrease_view_age_seconds{kind="pods"} 1.25\n'),
        ("controller-b", None),
    ):
        labels = {"app.kubernetes.io/name": "crease", "app.kubernetes.io/component": name.partition("-")[0]}
        ports = [{"name": "grpc", "containerPort": 50051}, {"name": "metrics", "containerPort": 9000}]
        body = {
            "metadata": {"name": name, "namespace": "nets", "labels": labels},
            "spec": {"containers": [{"ports": ports}]},
        }
        kubectl.server.make("pods", body)
        if text:
            kubectl.exposed[f"pod/{name}"] = text
    runtime = KubernetesRuntime(kubectl)
    runtime.drain("by somebody at noon")
    status.show_status(services, runtime)
    shown = screen.getvalue()
    assert "7 queued" in shown
    assert "oldest: queued 42 s" in shown
    assert "2 free" in shown
    assert "controller-a leads, but launches nothing new: drained by somebody at noon" in shown
    assert "pods 1.2 s old" in shown


def test_status_shows_the_metrics_while_the_cluster_is_unavailable(
    services: Services, kubectl: FakeKubectl, screen: io.StringIO
) -> None:
    """The line about the controller says that its drain is unknown."""

    class Unavailable(KubernetesRuntime):
        def drained_by(self) -> str:
            raise CommandError("kubectl: connection refused")

        def read_metrics(self) -> dict[str, str]:
            return {"controller": 'crease_leader 1.0\ncrease_view_age_seconds{kind="pods"} 400\n'}

    status.show_status(services, Unavailable(kubectl))
    shown = screen.getvalue()
    assert "controller leads; whether it is drained is unknown: kubectl: connection refused" in shown
    assert "pods 400.0 s old" in shown


def test_doctor_finds_no_fault_in_a_healthy_cluster(services: Services, kubectl: FakeKubectl) -> None:
    """Except S3, which does not run here."""
    faults = {check.name for check in doctor.run_checks(services, KubernetesRuntime(kubectl)) if not check.ok}
    assert faults == {"s3"}


@pytest.mark.parametrize(
    "name",
    [
        "jobs", "rights", "image", "gpus", "clock", "nodes", "sandbox", "crease-controller", "launching", "references",
        "next analysis", "waiting analyses", "certificates", "last launches",
    ],
)  # fmt: skip
def test_doctor_names_a_fault_and_gives_advice(
    name: str, shared_jobs: Program, services: Services, kubectl: FakeKubectl, road: Road, tmp_path: Path
) -> None:
    """Each fault alone fails its own check and no other."""
    runtime = KubernetesRuntime(kubectl)
    match name:
        case "rights":
            kubectl.denied.add(("create", "jobs.batch"))
        case "image":
            run_in(kubectl, "j", {"reason": "ErrImagePull", "message": "denied"})
            kubectl.server.remove("jobs", "analysis-j-1")
        case "references":
            change_setting(kubectl, "CREASE_IMAGE_PULL_SECRETS", '["registry"]')
            kubectl.others["secrets"] = []
        case "next analysis":
            kubectl.refused["Pod"] = 'pods "crease-doctor" is forbidden: exceeded quota: few'
        case "waiting analyses":
            make_waiting(kubectl)
        case "certificates":
            tomorrow = time.time() + 86400
            expose(kubectl, f'crease_certificate_expires_timestamp_seconds{{file="tls.crt"}} {tomorrow}\n')
        case "last launches":
            # A job that was done before is no excuse.
            done = road.started()
            road.submit(*done, job_pb2.STAGE_QUICK)
            road.submit(*done, job_pb2.STAGE_DEEP)
            road.queued()
            road.end(road.open()[0], launch_pb2.ENDING_IMAGE, "ErrImagePull: no such tag")
        case "gpus":
            add_node(kubectl, gpus="")
        case "clock":
            # An analysis that was just created by the API server's clock is not late.
            run_in(kubectl, "j", {"reason": "ContainerCreating"})
            runtime = KubernetesRuntime(kubectl, now=lambda: datetime.now(UTC) + timedelta(minutes=5))
        case "nodes":
            kubectl.others["node leases"][0]["spec"]["renewTime"] = "2026-01-01T00:00:00.000000Z"
        case "sandbox":
            info = {"nodeInfo": {"kernelVersion": "5.4.0-150-generic"}}
            kubectl.server.make("nodes", {"metadata": {"name": "old"}, "spec": {}, "status": info})
        case "crease-controller":
            kubectl.others["deployments"][0]["status"] = {"readyReplicas": 1}
        case "launching":
            runtime.drain("by somebody")
    token = tmp_path / "token"
    endpoint = "127.0.0.1:1" if name == "jobs" else shared_jobs.endpoint
    with client.connect(Endpoints(endpoint, "127.0.0.1:1", str(token)), retries=False) as connected:
        checks = [check for check in doctor.run_checks(connected, runtime) if check.name != "s3"]
    assert [check.name for check in checks if not check.ok] == [name]
    assert next(check for check in checks if not check.ok).advice


def make_queue(kubectl: FakeKubectl, *, active: str = "True", check: str = "kueue.x-k8s.io/provisioning") -> None:
    """Kueue's objects, and the setting that names its LocalQueue."""
    change_setting(kubectl, "CREASE_QUEUE_NAME", "analyses")
    condition = {"type": "Active", "status": active, "reason": "Stopped", "message": "the ClusterQueue is stopped"}
    kubectl.others |= {
        "localqueues.kueue.x-k8s.io": [
            {"metadata": {"name": "analyses"}, "spec": {"clusterQueue": "all"}, "status": {"conditions": [condition]}}
        ],
        "clusterqueues.kueue.x-k8s.io": [
            {
                "metadata": {"name": "all"},
                "spec": {"admissionChecksStrategy": {"admissionChecks": [{"name": "elsewhere"}]}},
                "status": {"conditions": [condition]},
            }
        ],
        "admissionchecks.kueue.x-k8s.io": [{"metadata": {"name": "elsewhere"}, "spec": {"controllerName": check}}],
    }


def test_doctor_checks_the_queue(services: Services, kubectl: FakeKubectl) -> None:
    """That it exists and admits, and that it sends nothing to another cluster."""

    def found(name: str) -> tuple[bool, str]:
        checks = doctor.run_checks(services, KubernetesRuntime(kubectl))
        return next((check.ok, check.detail) for check in checks if check.name == name)

    make_queue(kubectl)
    assert found("queue") == (True, "LocalQueue analyses admits")
    assert found("cluster queue") == (True, "ClusterQueue all admits")
    make_queue(kubectl, active="False")
    assert found("queue") == (False, "Stopped: the ClusterQueue is stopped")
    assert found("cluster queue") == (False, "Stopped: the ClusterQueue is stopped")
    make_queue(kubectl, check="kueue.x-k8s.io/multikueue")
    assert found("cluster queue") == (False, "ClusterQueue all sends Jobs to other clusters by MultiKueue (elsewhere)")
    kubectl.denied.add(("watch", "workloads.kueue.x-k8s.io"))
    checks = {check.name: check for check in doctor.run_checks(services, KubernetesRuntime(kubectl))}
    assert checks["rights"].detail == "the controller may not watch workloads.kueue.x-k8s.io"


def test_doctor_says_why_the_queue_holds_an_analysis(services: Services, kubectl: FakeKubectl) -> None:
    """In the words of Kueue's Workload."""
    make_waiting(kubectl)
    job = kubectl.server.objects["jobs"]["analysis-j-1"]
    job["spec"]["suspend"] = True
    held = {"type": "QuotaReserved", "status": "False", "reason": "Pending", "message": "insufficient unused quota"}
    owner = {"uid": job["metadata"]["uid"]}
    workload = {"metadata": {"name": "w", "ownerReferences": [owner]}, "status": {"conditions": [held]}}
    kubectl.others["workloads.kueue.x-k8s.io"] = [workload]
    checks = {check.name: check for check in doctor.run_checks(services, KubernetesRuntime(kubectl))}
    assert "until its queue admits it: Pending: insufficient unused quota" in checks["waiting analyses"].detail


def make_waiting(kubectl: FakeKubectl) -> None:
    """A Kubernetes Job without a pod, with the Event that says why."""
    name = run_in(kubectl, "j", {"reason": "ContainerCreating"})
    job = kubectl.server.objects["jobs"][name]
    job["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    about = {"name": name, "kind": "Job", "uid": job["metadata"]["uid"]}
    kubectl.server.make("events", {
        "metadata": {"name": "e"}, "type": "Warning", "reason": "FailedCreate", "message": "no such account",
        "involvedObject": about, "lastTimestamp": "2026-01-01T00:00:01Z",
    })  # fmt: skip


def expose(kubectl: FakeKubectl, page: str) -> None:
    """A pod of jobs with this page of metrics."""
    labels = {"app.kubernetes.io/name": "crease", "app.kubernetes.io/component": "jobs"}
    containers = [{"ports": [{"name": "metrics", "containerPort": 9000}]}]
    kubectl.server.make("pods", {"metadata": {"name": "jobs-a", "labels": labels}, "spec": {"containers": containers}})
    kubectl.exposed["pod/jobs-a"] = page


def change_setting(kubectl: FakeKubectl, name: str, value: str) -> None:
    """A variable of the controller's container."""
    [deployment] = kubectl.others["deployments"]
    deployment["spec"]["template"]["spec"]["containers"][0]["env"].append({"name": name, "value": value})


def test_doctor_says_which_checks_it_could_not_make(
    services: Services, kubectl: FakeKubectl, screen: io.StringIO
) -> None:
    """With rights in the namespace alone; the other checks are made."""
    kubectl.forbidden = {"nodes"}
    kubectl.refused["Job"] = 'jobs.batch is forbidden: User "sre" cannot create resource "jobs" in API group "batch"'
    doctor.show_checks(services, KubernetesRuntime(kubectl))
    shown = screen.getvalue()
    assert re.search(r"^gpus +\? +not checked: .*nodes is forbidden", shown, re.MULTILINE)
    assert re.search(r"^sandbox +\? +not checked: .*nodes is forbidden", shown, re.MULTILINE)
    assert re.search(r"^next analysis +\? +not checked: .*cannot create resource", shown, re.MULTILINE)
    assert re.search(r"^rights +ok", shown, re.MULTILINE)
    assert "Not checked: 3." in shown


def test_doctor_asks_the_bucket_whether_the_page_may_upload(kubectl: FakeKubectl, tmp_path: Path) -> None:
    """As a browser asks: a rule for another page, for reading alone, or none is a fault; silence is none."""
    page = "https://crease.example.com"

    def found(s3: str) -> list[tuple[bool, bool]]:
        add_deployment(kubectl, "web", CREASE_ORIGIN=page, CREASE_S3_ORIGIN=s3)
        checks = [check for check in KubernetesRuntime(kubectl).run_checks() if check.name == "page uploads"]
        assert all(check.ok or f"allow-origin {page}" in check.advice for check in checks)
        return [(check.ok, check.made) for check in checks]

    add_deployment(kubectl, "upload", S3_COACH_VIDEOS_BUCKET="videos")
    assert found("http://127.0.0.1:1") == [(True, False)]
    with ministack(tmp_path, page) as s3:
        s3.make_bucket("videos")
        assert found(s3.url) == [(False, True)]
        reads = {"AllowedOrigins": [page], "AllowedMethods": ["GET"], "AllowedHeaders": ["*"]}
        s3.client().put_bucket_cors(Bucket="videos", CORSConfiguration={"CORSRules": [reads]})
        assert found(s3.url) == [(False, True)]
        cors.allow(s3.client(), "videos", "https://other.example.com")
        assert found(s3.url) == [(False, True)]
        cors.allow(s3.client(), "videos", page)
        assert found(s3.url) == [(True, True)]


def add_deployment(kubectl: FakeKubectl, program: str, **variables: str) -> None:
    """One of the release, in place of an earlier one of this program."""
    labels = {"app.kubernetes.io/name": "crease", "app.kubernetes.io/component": program}
    containers = [{"env": [{"name": name, "value": value} for name, value in variables.items()]}]
    name = f"crease-{program}"
    body = {
        "metadata": {"name": name, "namespace": "nets", "labels": labels},
        "spec": {"replicas": 1, "template": {"spec": {"containers": containers}}},
        "status": {"readyReplicas": 1},
    }
    others = [one for one in kubectl.others["deployments"] if one["metadata"]["name"] != name]
    kubectl.others["deployments"] = [*others, body]


def test_doctor_calls_a_failed_handshake_no_fault_of_the_database(shared_jobs: Program, tmp_path: Path) -> None:
    """A client that speaks TLS to a server that does not, as with an expired certificate."""
    token = tmp_path / "token"
    token.write_text("t")
    runtime = KubernetesRuntime(FakeKubectl(ApiServer()))
    found = Endpoints(f"https://{shared_jobs.endpoint}", "127.0.0.1:1", str(token))
    with client.connect(found, retries=False) as connected:
        first = next(doctor.run_checks(connected, runtime))
    assert (first.name, first.ok) == ("tls", False)
    assert "handshake" in first.detail.lower()


def test_a_release_is_chosen_where_a_namespace_has_several(kubectl: FakeKubectl) -> None:
    """By --release; without it the command ends with the names, and changes nothing of either."""
    [deployment] = kubectl.others["deployments"]
    kubectl.others["deployments"] = []
    for name in ("red", "blue"):
        labels = deployment["metadata"]["labels"] | {"app.kubernetes.io/instance": name}
        one = copy.deepcopy(deployment | {"metadata": deployment["metadata"] | {"name": name, "labels": labels}})
        variables = one["spec"]["template"]["spec"]["containers"][0]["env"]
        variables.append({"name": "CREASE_LEADER_LEASE", "value": f"{name}-controller"})
        kubectl.others["deployments"].append(one)
        kubectl.server.make("leases", {"metadata": {"name": f"{name}-controller"}, "spec": {}})
    with pytest.raises(CommandError, match=r"has the releases blue, red: choose one by --release"):
        KubernetesRuntime(kubectl).drain("by me")
    chosen = FakeKubectl(kubectl.server, release="blue")
    chosen.others = kubectl.others
    KubernetesRuntime(chosen).drain("by me")
    drained = [name for name, lease in kubectl.server.objects["leases"].items() if lease["metadata"].get("annotations")]
    assert drained == ["blue-controller"]
    wrong = FakeKubectl(kubectl.server, release="green")
    wrong.others = kubectl.others
    with pytest.raises(CommandError, match=r"no release green; its releases: blue, red"):
        KubernetesRuntime(wrong).drain("by me")


def test_status_says_that_no_controller_answers(services: Services, kubectl: FakeKubectl, screen: io.StringIO) -> None:
    """Not that no replica leads. By the signs of docs/operating.md the screen names the fault."""
    status.show_status(services, KubernetesRuntime(kubectl))
    assert "Controller  none answers: it is down, it is deployed elsewhere, or" in screen.getvalue()
    assert signs.named(f"{signs.COMMANDS}\n{screen.getvalue()}") == ["The controller is down"]


def test_the_logs_are_those_of_the_newest_pod(kubectl: FakeKubectl) -> None:
    """Without a pod, the error names another command."""
    with pytest.raises(CommandError, match="see `why j`"):
        KubernetesRuntime(kubectl).show_logs("j", follow=False)
    name = run_in(kubectl, "j")
    KubernetesRuntime(kubectl).show_logs("j", follow=True)
    assert kubectl.shown == [("logs", f"pod/{name}-abcde", "--all-containers", "-f")]


def test_a_laptops_records_show_runs_and_events(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Processes in place of pods, the controller's log in place of Kubernetes Events, a file for the drain."""
    record = tmp_path / "controller" / "launches" / "analysis-j-1"
    record.mkdir(parents=True)
    (record / "record.json").write_text(json.dumps({"created_at": "2026-11-21T13:00:00+00:00"}))
    (record / "log").write_text("working\n")
    (record / "exit_code").write_text("70\n")
    (tmp_path / "logs").mkdir()
    lines = (
        {"event": "create", "job_id": "j", "why": "It is queued", "timestamp": "t1"},
        {"event": "rpc", "job_id": "j"},
    )
    (tmp_path / "logs" / "controller.log").write_text("no json: j\n" + "\n".join(map(json.dumps, lines)))
    runtime = LaptopRuntime(tmp_path, {})
    assert [(run.name, run.state, run.detail) for run in runtime.list_runs("j")] == [
        ("analysis-j-1", "Ended", "since 13:00:00 UTC, exit code 70")
    ]
    assert [(event.at, event.reason, event.message) for event in runtime.list_events("j")] == [
        ("t1", "create", "It is queued")
    ]
    runtime.show_logs("j", follow=True)
    assert capsys.readouterr().out == "working\n"
    runtime.drain("by me")
    assert runtime.drained_by() == "by me"
    runtime.undo_drain()
    assert runtime.drained_by() == ""


# A kernel without Landlock, as its programs see it: the first of its calls is unknown.
WITHOUT_LANDLOCK = """
import ctypes, errno, sys
from pathlib import Path
from services.analyzer.sandbox import confinement, landlock, seccomp
from services.cli.runtime.laptop import LaptopRuntime
if sys.argv[2]:
    libc = ctypes.CDLL(None)
    confinement._set(libc, confinement.PR_SET_NO_NEW_PRIVS, 1)
    code = seccomp._code(seccomp.LOAD, seccomp.NUMBER)
    code += seccomp._return_if(landlock.CREATE_RULESET, seccomp.ERRNO | errno.ENOSYS)
    code += seccomp._code(seccomp.RETURN, seccomp.ALLOW)
    program = seccomp._Program(len(code) // 8, code)
    assert libc.prctl(seccomp.PR_SET_SECCOMP, seccomp.SECCOMP_MODE_FILTER, ctypes.byref(program)) == 0
print(next(check for check in LaptopRuntime(Path(sys.argv[1]), {}).run_checks() if check.name == "sandbox"))
"""


@pytest.mark.parametrize("lacking", ["", "Landlock"])
def test_doctor_tries_the_sandbox_on_a_laptop(tmp_path: Path, lacking: str) -> None:
    """A fault names what the kernel lacks, and says what an operator can do."""
    if subprocess.run([sys.executable, "-m", "services.analyzer.sandbox.confinement"], cwd=ROOT).returncode:
        pytest.skip("this kernel does not confine")
    command = [sys.executable, "-c", WITHOUT_LANDLOCK, str(tmp_path), lacking]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert f"ok={not lacking}" in shown
    assert "it lacks Landlock" in shown or not lacking


def test_the_clients_copies_of_the_controllers_names_are_right() -> None:
    """Its Role: no program imports another."""
    role = yaml.safe_load(ROLE.read_text())
    for rules, rights in ((role["rules"], RIGHTS), (role["queueRules"], QUEUE_RIGHTS)):
        documented = {
            f"{resource}.{group}".rstrip("."): tuple(rule["verbs"])
            for rule in rules for group in rule["apiGroups"] for resource in rule["resources"]
        }  # fmt: skip
        assert documented == rights


def test_services_with_tls_are_called_by_tls(kubectl: FakeKubectl) -> None:
    """By the name on their certificates, with the certificate authority that the analyzers trust."""
    for name, port in (("jobs", 50051), ("upload", 50052)):
        labels = {"app.kubernetes.io/name": "crease", "app.kubernetes.io/component": name}
        spec = {"ports": [{"port": port, "appProtocol": "https"}]}
        metadata = {"name": f"crease-{name}", "namespace": "nets", "labels": labels}
        kubectl.others["services"].append({"metadata": metadata, "spec": spec})
    environment = kubectl.others["deployments"][0]["spec"]["template"]["spec"]["containers"][0]["env"]
    environment.append({"name": "CREASE_ANALYZER_CA_CONFIG_MAP", "value": "authority"})
    kubectl.others["configmaps"] = [{"metadata": {"name": "authority"}, "data": {"ca.crt": "PEM"}}]
    with forward_services(kubectl) as variables:
        assert variables["CREASE_JOBS_ENDPOINT"] == "https://127.0.0.1:50051/crease-jobs.nets.svc"
        assert variables["CREASE_UPLOAD_ENDPOINT"] == "https://127.0.0.1:50052/crease-upload.nets.svc"
        assert Path(variables["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"]).read_text() == "PEM"
