"""What an operator is told: of a real `jobs`, and of a cluster in memory or the records of a laptop."""

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from crease.analysis.v1 import launch_pb2
from services import dev_issuer
from services.cli.api import client
from services.cli.api.client import Services
from services.cli.commands import operate
from services.cli.errors import Trouble
from services.cli.laptop.state_dir import Client
from services.cli.runtime import kubernetes as cli_cluster
from services.cli.runtime import laptop as cli_machine
from services.cli.runtime.kubernetes import RIGHTS, ClusterPlace
from services.cli.runtime.laptop import Machine
from services.cli.ui import console
from services.controller.kubernetes import leader_election
from services.controller.local import launcher
from testing.fakes.api_server import ApiServer
from testing.fakes.kubectl import FakeKubectl
from testing.servers.kubernetes import ROLE
from testing.servers.programs import Laptop, Program
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
    """As a superuser; nobody uploads here."""
    token = tmp_path / "token"
    token.write_text(dev_issuer.person(laptop.folder, "sre", role="superuser"))
    with client.connect(Client(shared_jobs.endpoint, "127.0.0.1:1", str(token))) as connected:
        yield connected


@pytest.fixture
def kubectl() -> FakeKubectl:
    """Of a namespace with a controller, its Lease and one node."""
    fake = FakeKubectl(ApiServer())
    fake.server.make("leases", {"metadata": {"name": "crease-controller"}, "spec": {}})
    told = [{"name": "CREASE_ANALYZER_IMAGE", "value": "registry/analyzer:1"},
            {"name": "CREASE_GPU_RESOURCE", "value": "nvidia.com/gpu"},
            {"name": "CREASE_GPU_NODE_SELECTOR", "value": '{"pool": "gpu"}'}]  # fmt: skip
    pod = {"serviceAccountName": "crease-controller", "containers": [{"env": told}]}
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
    """A Kubernetes Job and its pod, as the controller makes them."""
    name = f"analysis-{job_id}-1"
    labels = {"crease.dev/job": job_id, "app.kubernetes.io/component": "analyzer"}
    fake.server.starts_pods = False
    job = fake.server.make("jobs", {"metadata": {"name": name, "labels": labels}, "spec": {}})
    owner = {"uid": job["metadata"]["uid"], "controller": True}
    state = {"containerStatuses": [{"name": "analyzer", "state": {"waiting": waiting}}]} if waiting else {}
    metadata = {"name": f"{name}-abcde", "labels": labels, "ownerReferences": [owner]}
    status = {"phase": "Pending" if waiting else "Running", **state}
    fake.server.make("pods", {"metadata": metadata, "spec": {"nodeName": "n1", "containers": []}, "status": status})
    return name


def test_why_says_what_jobs_recorded_and_what_the_cluster_says(
    road: Road, services: Services, kubectl: FakeKubectl, screen: io.StringIO
) -> None:
    """The sentence, what it waits for, the pod with its trouble, and what the controller did."""
    job_id = road.queued()
    road.confirm(road.open()[0])
    name = run_in(kubectl, job_id, {"reason": "ImagePullBackOff", "message": "no such tag"})
    event = {"metadata": {"name": "e1"}, "involvedObject": {"name": name}, "reason": "Created",
             "message": "Its job is queued", "lastTimestamp": "2026-11-21T13:00:00Z"}  # fmt: skip
    kubectl.server.make("events", event)
    operate.why(services, ClusterPlace(kubectl), job_id)
    said = screen.getvalue()
    assert "Launch 1 in c1 was created and has not started yet." in said
    assert "It waits for: capacity, since 2" in said
    assert f"job/{name}  Open\n" in said
    assert f"pod/{name}-abcde  Pending  on n1, ImagePullBackOff: no such tag" in said
    assert "2026-11-21T13:00:00Z  Created  Its job is queued" in said


def test_launches_and_retry_tell_how_it_ended_and_begin_anew(
    road: Road, services: Services, screen: io.StringIO
) -> None:
    """By its code all that failed so are queued again, and nothing else is."""
    job_id = road.queued()
    launch = road.open()[0]
    road.confirm(launch)
    road.end(launch, launch_pb2.ENDING_IMAGE, "ErrImagePull: no such tag")
    other = road.queued()
    operate.launches(services, job_id)
    assert "image, 2" in screen.getvalue()
    assert "ErrImagePull: no such tag" in screen.getvalue()
    operate.retry(services, [], "DEADLINE")
    assert road.status(job_id) == "failed"
    operate.retry(services, [], "IMAGE")
    assert (road.status(job_id), road.status(other)) == ("queued", "queued")
    operate.cancel(services, job_id)
    assert road.status(job_id) == "cancelled"


def test_status_is_one_screen_from_what_the_programs_expose(
    road: Road, services: Services, kubectl: FakeKubectl, screen: io.StringIO
) -> None:
    """Read from the pods that have a port for it; one that does not answer is left out."""
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
    place = ClusterPlace(kubectl)
    place.drain("by somebody at noon")
    operate.status(services, place)
    said = screen.getvalue()
    assert "7 queued" in said
    assert "oldest: queued 42 s" in said
    assert "2 free" in said
    assert "controller-a works, but launches nothing new: drained by somebody at noon" in said
    assert "pods 1.2 s old" in said


def test_status_tells_what_it_can_while_the_cluster_is_away(
    services: Services, kubectl: FakeKubectl, screen: io.StringIO
) -> None:
    """The programs answer; who asks the cluster whether it is drained hears that it does not."""

    class Away(ClusterPlace):
        def drained(self) -> str:
            raise Trouble("kubectl: connection refused")

        def metrics(self) -> dict[str, str]:
            return {"controller": 'crease_leader 1.0\ncrease_view_age_seconds{kind="pods"} 400\n'}

    operate.status(services, Away(kubectl))
    said = screen.getvalue()
    assert "controller works; whether it is drained cannot be read: kubectl: connection refused" in said
    assert "pods 400.0 s old" in said


def test_doctor_finds_nothing_where_all_is_well(services: Services, kubectl: FakeKubectl) -> None:
    """But S3, which nobody asks here."""
    unwell = {check.what for check in operate._checks(services, ClusterPlace(kubectl)) if not check.well}
    assert unwell == {"s3"}


@pytest.mark.parametrize(
    "what", ["database", "rights", "image", "gpus", "clock", "nodes", "crease-controller", "launching"]
)
def test_doctor_names_what_is_not_well_and_says_what_to_do(
    what: str, shared_jobs: Program, services: Services, kubectl: FakeKubectl, screen: io.StringIO, tmp_path: Path
) -> None:
    """Each fault alone, and no other check turns with it."""
    place = ClusterPlace(kubectl)
    match what:
        case "rights":
            kubectl.denied.add(("create", "jobs.batch"))
        case "image":
            run_in(kubectl, "j", {"reason": "ErrImagePull", "message": "denied"})
        case "gpus":
            add_node(kubectl, gpus="")
        case "clock":
            place = ClusterPlace(kubectl, now=lambda: datetime.now(UTC) + timedelta(minutes=5))
        case "nodes":
            kubectl.others["node leases"][0]["spec"]["renewTime"] = "2026-01-01T00:00:00.000000Z"
        case "crease-controller":
            kubectl.others["deployments"][0]["status"] = {"readyReplicas": 1}
        case "launching":
            place.drain("by somebody")
    token = tmp_path / "token"
    endpoint = "127.0.0.1:1" if what == "database" else shared_jobs.endpoint
    with client.connect(Client(endpoint, "127.0.0.1:1", str(token))) as asked:
        checks = [check for check in operate._checks(asked, place) if check.what != "s3"]
    assert [check.what for check in checks if not check.well] == [what]
    assert next(check for check in checks if not check.well).advice


def test_the_logs_are_those_of_the_newest_pod(kubectl: FakeKubectl) -> None:
    """Without one, it says where else to look."""
    with pytest.raises(Trouble, match="`why` has what was recorded"):
        ClusterPlace(kubectl).show_logs("j", follow=False)
    name = run_in(kubectl, "j")
    ClusterPlace(kubectl).show_logs("j", follow=True)
    assert kubectl.shown == [("logs", f"pod/{name}-abcde", "--all-containers", "-f")]


def test_on_a_laptop_the_records_tell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Processes for pods, the controller's log for Kubernetes Events, a file for the drain."""
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
    place = Machine(tmp_path, {})
    assert [(run.name, run.state, run.words) for run in place.runs("j")] == [
        ("analysis-j-1", "Ended", "since 13:00:00 UTC, exit code 70")
    ]
    assert [(told.at, told.reason, told.words) for told in place.told("j")] == [("t1", "create", "It is queued")]
    place.show_logs("j", follow=True)
    assert capsys.readouterr().out == "working\n"
    place.drain("by me")
    assert place.drained() == "by me"
    place.drain("")
    assert place.drained() == ""


def test_what_the_command_knows_of_the_controller_is_so() -> None:
    """Its Role, and where it reads that it is drained: no program imports another."""
    rules = yaml.safe_load(ROLE.read_text())["rules"]
    documented = {
        f"{resource}.{group}".rstrip("."): tuple(rule["verbs"])
        for rule in rules for group in rule["apiGroups"] for resource in rule["resources"]
    }  # fmt: skip
    assert documented == RIGHTS
    assert (leader_election.DRAINED, launcher.DRAINED) == (cli_cluster.DRAINED, cli_machine.DRAINED)


def test_services_that_speak_tls_are_reached_by_it(kubectl: FakeKubectl) -> None:
    """By the name on their certificates, believing whom the analyses believe."""
    for name, port in (("jobs", 50051), ("upload", 50052)):
        labels = {"app.kubernetes.io/name": "crease", "app.kubernetes.io/component": name}
        spec = {"ports": [{"port": port, "appProtocol": "https"}]}
        metadata = {"name": f"crease-{name}", "namespace": "nets", "labels": labels}
        kubectl.others["services"].append({"metadata": metadata, "spec": spec})
    environment = kubectl.others["deployments"][0]["spec"]["template"]["spec"]["containers"][0]["env"]
    environment.append({"name": "CREASE_ANALYZER_CA_CONFIG_MAP", "value": "authority"})
    kubectl.others["configmaps"] = [{"metadata": {"name": "authority"}, "data": {"ca.crt": "PEM"}}]
    with cli_cluster.forwarded(kubectl) as told:
        assert told["CREASE_JOBS_ENDPOINT"] == "https://127.0.0.1:50051/crease-jobs.nets.svc"
        assert told["CREASE_UPLOAD_ENDPOINT"] == "https://127.0.0.1:50052/crease-upload.nets.svc"
        assert Path(told["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"]).read_text() == "PEM"
