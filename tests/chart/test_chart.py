"""What the chart renders, for each size in its `ci/`; no cluster is needed."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import kubernetes_validate
import pytest
import yaml

from services import VERSION
from services.controller.settings import KubernetesSettings
from services.jobs.settings import JobsSettings, RelaySettings
from services.settings import Settings
from services.upload.settings import UploadSettings
from tests.chart.chart import (
    CHART,
    GOLDEN,
    NAMESPACE,
    RELEASE,
    ROOT,
    SIZES,
    Manifest,
    helm,
    manifests,
    of_kind,
    pods,
    text,
    values,
)

SETTINGS: dict[str, type[Settings]] = {
    "jobs": JobsSettings,
    "upload": UploadSettings,
    "controller": KubernetesSettings,
    "relay": RelaySettings,
}
# Read by libraries, not by us.
OTHERS = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "CREASE_LAUNCHER"}
KUBERNETES = "1.36"
# Their schemas are not the API's own.
OF_OPERATORS = {"PrometheusRule"}


@pytest.mark.parametrize("size", SIZES)
def test_helm_finds_no_fault(size: str) -> None:
    """`helm lint --strict` passes."""
    linted = helm("lint", str(CHART), "--strict", "--quiet", "--values", values(size))
    assert linted.returncode == 0, linted.stdout + linted.stderr


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
def test_every_manifest_is_what_the_api_takes(size: str) -> None:
    """Each is valid by the API's own schema, unknown fields refused."""
    own = [manifest for manifest in manifests(size) if manifest["kind"] not in OF_OPERATORS]
    assert own
    for manifest in own:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_an_unknown_field_would_be_refused() -> None:
    """The check above can fail."""
    manifest = manifests("laptop")[0] | {"specs": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


@pytest.mark.parametrize("size", SIZES)
def test_it_renders_what_it_did(size: str) -> None:
    """A change of the manifests shows in the diff of a golden file: `make chart` writes them."""
    assert text(size) == (GOLDEN / f"{size}.yaml").read_text()


@pytest.mark.parametrize("size", SIZES)
def test_each_program_starts_with_what_it_is_told(size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its settings load from its variables, and it knows each of them: a renamed setting fails here."""
    for program, deployment in of_kind(size, "Deployment").items():
        if program not in SETTINGS:
            continue
        told = environment(deployment["spec"]["template"]["spec"]["containers"][0])
        assert told.keys() <= known(SETTINGS[program]) | OTHERS
        with monkeypatch.context() as patched:
            for name, value in told.items():
                patched.setenv(name, value)
            loaded = SETTINGS[program].load()
        if isinstance(loaded, JobsSettings | UploadSettings | KubernetesSettings):
            check_ports(size, program, loaded.listen)
            grace = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
            assert 5 + loaded.drain_seconds < grace


def test_the_controller_is_told_what_the_values_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values reach the setting that they are meant for, in its type."""
    controller = of_kind("gpu", "Deployment")["controller"]["spec"]["template"]["spec"]["containers"][0]
    for name, value in environment(controller).items():
        monkeypatch.setenv(name, value)
    loaded = KubernetesSettings.load()
    assert (loaded.gpu_resource, loaded.gpu_scales_up, loaded.gpu_wait_seconds) == ("nvidia.com/gpu", True, 600)
    assert loaded.gpu_node_selector == {"pool": "gpu"}
    assert loaded.analyzer_image == f"registry.example.com/crease/analyzer:{VERSION}"
    assert loaded.analyzer_service_account == of_kind("gpu", "ServiceAccount")["analyzer"]["metadata"]["name"]


@pytest.mark.parametrize("program", ["jobs", "upload"])
def test_the_servers_believe_the_release_s_own_accounts_and_nobody_else(program: str) -> None:
    """Tokens of another namespace's release prove nothing here."""
    container = of_kind("gpu", "Deployment")[program]["spec"]["template"]["spec"]["containers"][0]
    cluster = next(one for one in json.loads(environment(container)["CREASE_ISSUERS"]) if one["kind"] == "cluster")
    account = f"system:serviceaccount:{NAMESPACE}:{RELEASE}-"
    assert cluster["subjects"] == {account + name: name for name in ("upload", "controller", "analyzer")}


@pytest.mark.parametrize("size", SIZES)
def test_every_image_is_one_that_we_build(size: str) -> None:
    """Each is a stage of the Dockerfile, and its tag is the version of the project."""
    stages = set(re.findall(r"^FROM base AS (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    for image in re.findall(r"image: (\S+)", text(size)):
        assert re.fullmatch(rf"\S+/({'|'.join(stages)})(:{re.escape(VERSION)}|@sha256:[0-9a-f]{{64}})", image), image


@pytest.mark.parametrize("size", SIZES)
def test_every_pod_is_as_restricted_as_pod_security_asks(size: str) -> None:
    """Level `restricted`, and a read-only root besides."""
    for pod in pods(size).values():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert {next(iter(volume.keys() - {"name"})) for volume in pod["volumes"]} <= {
            "emptyDir",
            "projected",
            "secret",
            "configMap",
        }
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["readOnlyRootFilesystem"] is True
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("size", SIZES)
def test_each_power_is_held_by_one_program(size: str) -> None:
    """The database: `jobs` and what works for it. S3: `upload`. The API server's tokens: who needs them."""
    told = {name: set(environment(pod["containers"][0])) for name, pod in pods(size).items()}
    assert holders(told, "CREASE_DATABASE_URL") <= {"jobs", "relay", "migrate"}
    assert holders(told, "S3_COACH_VIDEOS_BUCKET") <= {"upload", "s3"}
    assert holders(told, "AWS_SECRET_ACCESS_KEY") <= {"upload", "relay", "s3"}
    with_api_token = {name for name, pod in pods(size).items() if "api-token" in json.dumps(pod)} - {"forget"}
    # `jobs` and `upload` read the API server's public keys with it, where it is the issuer; they have no Role.
    assert with_api_token <= {"controller", "jobs", "upload"}
    bound = [one for one in manifests(size) if one["kind"] in ("RoleBinding", "ClusterRoleBinding")]
    # The other one lives for some seconds after `helm uninstall`.
    assert {subject["name"] for one in bound for subject in one["subjects"]} == {
        f"{RELEASE}-controller",
        f"{RELEASE}-forget",
    }


def test_a_cluster_with_public_keys_gives_nobody_but_the_controller_a_token() -> None:
    """Where the keys are public, as on EKS, `jobs` and `upload` need none for the API server."""
    assert {name for name, pod in pods("small").items() if "api-token" in json.dumps(pod)} == {"controller", "forget"}


def test_the_controller_may_do_what_it_does_and_no_more() -> None:
    """The Role has the rules of kubernetes/role.yaml, which is compared with the controller's calls."""
    documented = yaml.safe_load((ROOT / "services/controller/kubernetes/role.yaml").read_text())
    assert of_kind("gpu", "Role")["controller"]["rules"] == documented["rules"]
    assert of_kind("gpu", "ClusterRole")["controller"]["rules"] == documented["clusterRules"]


@pytest.mark.parametrize("size", SIZES)
def test_every_pod_of_the_product_is_walled_in(size: str) -> None:
    """Each has a NetworkPolicy for both directions that selects it."""
    policies = of_kind(size, "NetworkPolicy")
    walled = pods(size).keys() - {"test", "trial", "s3", "forget"} | {"analyzer"}
    assert walled <= policies.keys()
    for policy in policies.values():
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]


def test_an_analysis_reaches_jobs_upload_and_s3_and_nothing_else() -> None:
    """And nobody reaches it."""
    spec = of_kind("laptop", "NetworkPolicy")["analyzer"]["spec"]
    assert spec["podSelector"]["matchLabels"] == {
        "app.kubernetes.io/component": "analyzer",
        "crease.dev/cluster": "nets-crease",
    }
    assert spec["ingress"] == []
    reached = {(component(rule), port["port"]) for rule in spec["egress"] for port in rule["ports"]}
    assert reached == {("anything", 53), ("jobs", 50051), ("upload", 50052), ("s3", 4566)}


def test_s3_elsewhere_is_reached_at_its_port_only() -> None:
    """An endpoint's port is taken from its URL, and AWS's is 443."""
    outside = [{"ipBlock": {"cidr": "10.0.0.0/8"}}]
    assert {"to": outside, "ports": [{"port": 9000}]} in of_kind("large", "NetworkPolicy")["analyzer"]["spec"]["egress"]
    everywhere = [{"ipBlock": {"cidr": "0.0.0.0/0"}}, {"ipBlock": {"cidr": "::/0"}}]
    assert {"to": everywhere, "ports": [{"port": 443}]} in of_kind("small", "NetworkPolicy")["analyzer"]["spec"][
        "egress"
    ]


def test_the_alerts_are_those_that_promtool_judged() -> None:
    """The rules of files/alerts.yaml, their pages where the values say, for the Prometheus that the labels choose."""
    rule = of_kind("large", "PrometheusRule")["alerts"]
    assert rule["metadata"]["labels"]["release"] == "prometheus"
    written = (CHART / "files" / "alerts.yaml").read_text()
    there = written.replace("runbook_url: docs/", "runbook_url: https://example.com/crease/docs/")
    assert rule["spec"] == yaml.safe_load(there)
    assert not of_kind("small", "PrometheusRule")


def test_the_dashboard_reaches_grafana_unchanged() -> None:
    """As a ConfigMap, where it is asked for."""
    rendered = helm("template", RELEASE, str(CHART), "--values", values("small"), "--set", "dashboard.enabled=true")
    maps = [one for one in yaml.safe_load_all(rendered.stdout) if one and one["kind"] == "ConfigMap"]
    dashboard = next(one for one in maps if one["metadata"]["labels"].get("grafana_dashboard") == "1")
    assert json.loads(dashboard["data"]["crease.json"]) == json.loads((CHART / "files/dashboard.json").read_text())


def test_metrics_are_reached_where_the_programs_tell_them() -> None:
    """A PodMonitor, once asked for, names the port of every program; the walls let Prometheus in there, and only there
    into the controller and the relay."""
    asked = helm("template", RELEASE, str(CHART), "--values", values("large"), "--set", "metrics.podMonitor=true")
    [monitor] = [one for one in yaml.safe_load_all(asked.stdout) if one and one["kind"] == "PodMonitor"]
    [endpoint] = monitor["spec"]["podMetricsEndpoints"]
    for program, deployment in of_kind("large", "Deployment").items():
        template = deployment["spec"]["template"]
        assert monitor["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
        ports = {port["name"]: port["containerPort"] for port in template["spec"]["containers"][0]["ports"]}
        assert environment(template["spec"]["containers"][0])["CREASE_METRICS_LISTEN"] == f"[::]:{ports['metrics']}"
        ingress = of_kind("large", "NetworkPolicy")[program]["spec"]["ingress"]
        reached = {port["port"] for rule in ingress for port in rule["ports"]}
        assert reached == set(ports.values()) - ({50053} if program == "controller" else set())
        assert endpoint["port"] == "metrics"


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("jobs.replica=2", "replica is not allowed"),
        ("jobs.replicas=two", "jobs.replicas: Invalid type"),
        ("analyzer.memory=plenty", "analyzer.memory"),
        ("image.pullPolicy=Sometimes", "image.pullPolicy"),
        ("s3.endpoint=minio:9000", "s3.endpoint"),
        ("jobs.replicas=0", "jobs.replicas"),
    ],
)
def test_wrong_values_are_refused_by_name(setting: str, sentence: str) -> None:
    """The message names the key."""
    refused = helm("template", RELEASE, str(CHART), "--set", "dev.embedded=true", "--set", setting)
    assert refused.returncode != 0
    assert sentence in refused.stderr


def test_what_must_be_given_is_asked_for_by_name() -> None:
    """Without a database, a bucket or an issuer there is no release."""
    refused = helm("template", RELEASE, str(CHART))
    assert refused.returncode != 0
    for key in ("database.secret", "s3.bucket", "s3.region", "issuers"):
        assert key in refused.stderr


def test_every_value_is_known_to_the_schema() -> None:
    """values.yaml holds a default for each key of the schema, and no other."""
    given = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert set(keys(given, schema, schema)) == set()


def keys(given: Any, schema: Any, whole: Any, path: str = "") -> Iterator[str]:
    """The paths at which values and schema differ."""
    reference = schema.get("$ref", "")
    schema = whole["$defs"][reference.rpartition("/")[2]] if reference else schema
    if "properties" not in schema or path == ".image.digests":
        return
    for key in given.keys() ^ (schema["properties"].keys() - {"global"}):
        yield f"{path}.{key}"
    for key in given.keys() & schema["properties"].keys():
        yield from keys(given[key], schema["properties"][key], whole, f"{path}.{key}")


def environment(container: Manifest) -> dict[str, str]:
    """A container's variables; what comes from elsewhere has a stand-in."""
    stand_ins = {"CREASE_DATABASE_URL": "postgresql://user:secret@db:5432/crease", "CREASE_NAMESPACE": NAMESPACE}
    return {one["name"]: str(one.get("value", stand_ins.get(one["name"], "x"))) for one in container.get("env", [])}


def known(settings: type[Settings]) -> set[str]:
    """The variables that a program reads."""
    return {str(field.validation_alias or f"CREASE_{name.upper()}") for name, field in settings.model_fields.items()}


def check_ports(size: str, program: str, listen: str) -> None:
    """What it listens on, its container's port and its Service are one."""
    container = of_kind(size, "Deployment")[program]["spec"]["template"]["spec"]["containers"][0]
    assert listen == f"[::]:{container['ports'][0]['containerPort']}"
    service = of_kind(size, "Service").get(program)
    if service:
        assert [port["port"] for port in service["spec"]["ports"]] == [container["ports"][0]["containerPort"]]


def holders(told: Mapping[str, set[str]], variable: str) -> set[str]:
    return {name for name, variables in told.items() if variable in variables}


def component(rule: Manifest) -> str:
    """Whom an egress rule reaches."""
    if "to" not in rule:
        return "anything"
    return str(rule["to"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/component"])
