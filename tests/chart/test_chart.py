"""The rendered chart for each size in `ci/`; needs no cluster."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]  # it ships no types
import pytest
import yaml

from services import VERSION
from services.controller.settings import KubernetesSettings
from services.jobs.settings import JobsSettings, RelaySettings
from services.settings import Issuer, ServiceGrant, Settings
from services.upload.settings import UploadSettings
from services.web.settings import WebSettings
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
    "web": WebSettings,
}
# Variables that libraries read, or that select a launcher.
OTHERS = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "CREASE_LAUNCHER"}
KUBERNETES = "1.36"
# The peers of web.login in large-values.yaml.
LOGIN = [{"podSelector": {"matchLabels": {"app": "oauth2-proxy"}}}]
# Kinds of operators, which the Kubernetes schema lacks.
OF_OPERATORS = {"PrometheusRule", "PodMonitor", "GRPCRoute", "HTTPRoute"}


@pytest.mark.parametrize("size", SIZES)
def test_helm_lint_passes(size: str) -> None:
    """With `--strict`."""
    linted = helm("lint", str(CHART), "--strict", "--quiet", "--values", values(size))
    assert linted.returncode == 0, linted.stdout + linted.stderr


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
def test_every_manifest_matches_the_api_schema(size: str) -> None:
    """The schema rejects unknown fields."""
    own = [manifest for manifest in manifests(size) if manifest["kind"] not in OF_OPERATORS]
    assert own
    for manifest in own:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_the_schema_rejects_an_unknown_field() -> None:
    """Proves that the test above can fail."""
    manifest = manifests("laptop")[0] | {"specs": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


@pytest.mark.parametrize("size", SIZES)
def test_the_rendered_chart_matches_its_golden_file(size: str) -> None:
    """`make chart` writes the golden files, so that each change of a manifest appears in a diff."""
    assert text(size) == (GOLDEN / f"{size}.yaml").read_text()


@pytest.mark.parametrize("size", SIZES)
def test_each_program_loads_its_settings_from_its_variables(size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And its settings include every variable, so that a renamed setting fails here."""
    for program, deployment in of_kind(size, "Deployment").items():
        if program not in SETTINGS:
            continue
        variables = environment(deployment["spec"]["template"]["spec"]["containers"][0])
        assert variables.keys() <= known(SETTINGS[program]) | OTHERS
        with monkeypatch.context() as patched:
            for name, value in variables.items():
                patched.setenv(name, value)
            loaded = SETTINGS[program].load()
        if isinstance(loaded, JobsSettings | UploadSettings | KubernetesSettings | WebSettings):
            check_ports(size, program, loaded.listen)
            grace = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
            assert 5 + loaded.drain_seconds < grace


def test_chart_values_reach_the_controller_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each value arrives in the right setting with the right type."""
    controller = of_kind("gpu", "Deployment")["controller"]["spec"]["template"]["spec"]["containers"][0]
    for name, value in environment(controller).items():
        monkeypatch.setenv(name, value)
    loaded = KubernetesSettings.load()
    assert (loaded.gpu_resource, loaded.gpu_scales_up, loaded.gpu_wait_seconds) == ("nvidia.com/gpu", True, 600)
    assert loaded.gpu_node_selector == {"pool": "gpu"}
    assert loaded.analyzer_image == f"registry.example.com/crease/analyzer:{VERSION}"
    assert loaded.analyzer_service_account == of_kind("gpu", "ServiceAccount")["analyzer"]["metadata"]["name"]


@pytest.mark.parametrize("program", ["jobs", "upload"])
def test_servers_trust_only_the_accounts_of_their_release(program: str) -> None:
    """Tokens of a release in another namespace are not accepted."""
    container = of_kind("gpu", "Deployment")[program]["spec"]["template"]["spec"]["containers"][0]
    cluster = next(one for one in json.loads(environment(container)["CREASE_ISSUERS"]) if one["kind"] == "cluster")
    account = f"system:serviceaccount:{NAMESPACE}:{RELEASE}-"
    assert cluster["subjects"] == {account + name: name for name in ("upload", "controller", "analyzer")}


@pytest.mark.parametrize("program", ["jobs", "upload"])
def test_services_reach_the_servers_with_their_rights(program: str) -> None:
    """Those of the cluster by ServiceAccount, the others at their issuer; a release without services trusts none."""
    trusted = {}
    for size in ("gpu", "large"):
        container = of_kind(size, "Deployment")[program]["spec"]["template"]["spec"]["containers"][0]
        issuers = [Issuer.model_validate(one) for one in json.loads(environment(container)["CREASE_ISSUERS"])]
        trusted[size] = {issuer.kind: issuer.services for issuer in issuers if issuer.services}
    reader = ServiceGrant(name="statistics", may=frozenset({"read", "events"}), owners=frozenset({"*"}))
    academy = ServiceGrant(name="academy", may=frozenset({"read", "write"}), owners=frozenset({"org:o-1", "coach:c-1"}))
    assert trusted == {
        "gpu": {},
        "large": {
            "cluster": {"system:serviceaccount:statistics:reader": reader},
            "service": {"academy": academy},
        },
    }


def test_a_service_of_an_issuer_that_is_not_listed_is_rejected() -> None:
    """It would be refused at each call, and nothing would say why."""
    service = (
        "services[0].name=a,services[0].issuer=x,services[0].subject=a,services[0].may={read},services[0].owners={*}"
    )
    refused = helm("template", RELEASE, str(CHART), "--set", "dev.embedded=true", "--set", service)
    assert refused.returncode != 0
    assert "serviceIssuers has no issuer x of the service a" in refused.stderr


@pytest.mark.parametrize("size", SIZES)
def test_every_image_is_a_stage_of_the_dockerfile(size: str) -> None:
    """And its tag is the version of the project."""
    stages = set(re.findall(r"^FROM base AS (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    for image in re.findall(r"image: (\S+)", text(size)):
        assert re.fullmatch(rf"\S+/({'|'.join(stages)})(:{re.escape(VERSION)}|@sha256:[0-9a-f]{{64}})", image), image


@pytest.mark.parametrize("size", SIZES)
def test_every_pod_meets_the_restricted_pod_security_level(size: str) -> None:
    """With a read-only root in addition."""
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
    """`jobs`, the relay and the migration hold the database, `upload` S3, the controller the API server."""
    programs = {name: set(environment(pod["containers"][0])) for name, pod in pods(size).items()}
    assert holders(programs, "CREASE_DATABASE_URL") <= {"jobs", "relay", "migrate"}
    assert holders(programs, "S3_COACH_VIDEOS_BUCKET") <= {"upload", "s3"}
    assert holders(programs, "AWS_SECRET_ACCESS_KEY") <= {"upload", "relay", "s3"}
    with_api_token = {name for name, pod in pods(size).items() if "api-token" in json.dumps(pod)}
    # Where the API server is the issuer, `jobs` and `upload` need a token to read its public keys; they have no Role.
    assert with_api_token <= {"controller", "jobs", "upload"}
    bound = [one for one in manifests(size) if one["kind"] in ("RoleBinding", "ClusterRoleBinding")]
    assert {subject["name"] for one in bound for subject in one["subjects"]} == {f"{RELEASE}-controller"}


def _rendered(release: str, namespace: str, *more: str) -> list[Manifest]:
    """The manifests of a release with the values of a trial."""
    return _templated(release, "--namespace", namespace, "--set", "dev.embedded=true", *more)


def _templated(release: str, *options: str) -> list[Manifest]:
    rendered = helm("template", release, str(CHART), *options)
    assert rendered.returncode == 0, rendered.stderr
    return [one for one in yaml.safe_load_all(rendered.stdout) if one]


def _cluster(release: str, namespace: str) -> str:
    [owner] = [one for one in _rendered(release, namespace) if one["metadata"]["name"].endswith("-release")]
    return str(owner["data"]["cluster"])


def test_long_names_of_two_releases_stay_different() -> None:
    """A name that must be cut ends with a hash of the whole: of clusters, and of objects in one namespace."""
    namespace = "analyses-of-the-academy-in-the-north-of-the-county"
    left, right = f"{namespace[:40]}-left", f"{namespace[:40]}-right"
    assert len(_cluster(left, namespace)) <= 63
    assert _cluster(left, namespace) != _cluster(right, namespace)
    names = [{(one["kind"], one["metadata"]["name"]) for one in _rendered(name, namespace)} for name in (left, right)]
    assert not names[0] & names[1]
    assert _cluster("crease", "nets") == "nets-crease"


def test_cluster_wide_names_are_those_of_one_release() -> None:
    """Namespace `a-b` with release `c` and namespace `a` with release `b-c` share no ClusterRole."""
    names = [
        {one["metadata"]["name"] for one in _rendered(release, namespace) if one["kind"].startswith("ClusterRole")}
        for namespace, release in (("a-b", "c-crease"), ("a", "b-c-crease"))
    ]
    assert names[0]
    assert not names[0] & names[1]


@pytest.mark.parametrize("size", SIZES)
def test_every_manifest_names_its_namespace(size: str) -> None:
    """So that `helm template | kubectl apply` needs no -n, and creates nothing elsewhere."""
    for one in manifests(size):
        expected = None if one["kind"].startswith("ClusterRole") else NAMESPACE
        assert one["metadata"].get("namespace") == expected, one["metadata"]["name"]


def test_names_and_values_that_look_like_numbers_stay_text() -> None:
    """A namespace of digits, a release of digits, and a number given by --set."""
    made = _rendered("1234", "20261129", "--set", "analyzer.cpu=2", "--set-string", "fullnameOverride=5678",
                     "--set", "resourceQuota.pods=5", "--set", "dashboard.enabled=true")  # fmt: skip
    for one in made:
        metadata = one["metadata"]
        texts = [metadata["name"], metadata.get("namespace", ""), *metadata["labels"].values()]
        assert all(isinstance(text, str) for text in texts), metadata
        kubernetes_validate.validate(one, KUBERNETES, strict=True)
    [controller] = [one for one in made if one["kind"] == "Deployment" and one["metadata"]["name"] == "5678-controller"]
    assert environment(controller["spec"]["template"]["spec"]["containers"][0])["CREASE_ANALYZER_CPU"] == "2"


def test_no_outside_means_no_destination_outside() -> None:
    """An empty list of destinations would allow all of them."""
    made = _rendered(
        "crease",
        "nets",
        "--set",
        "networkPolicy.outside=null",
        "--set",
        "networkPolicy.clients[0].ipBlock.cidr=10.0.0.0/8",
    )
    policies = {one["metadata"]["name"]: one["spec"] for one in made if one["kind"] == "NetworkPolicy"}
    assert policies
    for name, spec in policies.items():
        for rule in spec["egress"]:
            assert rule.get("to", ["any"]), name
            assert "ipBlock" not in json.dumps(rule), name
    # The pods of `helm test` and of a trial are clients, whatever the list of clients.
    admitted = json.dumps(policies["crease-jobs"]["ingress"])
    assert '"app.kubernetes.io/component": "test"' in admitted
    assert '"app.kubernetes.io/component": "trial"' in admitted


def test_without_hooks_jobs_migrates() -> None:
    """For tools that know no hooks: no Job, and an init container of `jobs`."""
    made = _templated(RELEASE, "--values", values("small"), "--set", "migration.hook=false")
    assert not [one for one in made if one["kind"] == "Job"]
    [jobs] = [one for one in made if one["kind"] == "Deployment" and one["metadata"]["name"] == "crease-jobs"]
    [init] = jobs["spec"]["template"]["spec"]["initContainers"]
    assert (init["name"], init["args"]) == ("migrate", ["migrate"])


# All that a value may need to have an effect, beyond the large size.
EVERYTHING = {
    "metrics": {"podMonitor": True},
    "dashboard": {"enabled": True},
    "test": {"tokenSecret": "person"},
    "ingress": {"enabled": True},
    "gateway": {"enabled": True, "parentRefs": [{"name": "edge"}]},
    "web": {"ingress": {"enabled": True}, "gateway": {"enabled": True, "parentRefs": [{"name": "edge"}]}},
}
# Values of these paths must be of a kind that the schema or Kubernetes knows.
CHANGED: dict[str, Any] = {
    "image.digests.jobs": "sha256:" + "1" * 64,
    "image.pullPolicy": "Always",
    "image.arch": "arm64",
    "issuers": [{"issuer": "https://other.example", "jwksUrl": "https://other.example/keys"}],
    "services": [{"name": "other", "subject": "other", "may": ["read"], "owners": ["coach:c-2"]}],
    "serviceIssuers": [{"issuer": "https://services.example.com/", "jwksUrl": "https://other.example/keys"}],
    "clusterIssuer.jwksUrl": "https://other.example/keys",
    "s3.endpoint": "https://other.example:9001",
    "sqs.endpoint": "https://other.example:9001",
    "tracing.endpoint": "http://other:4318",
    "tracing.share": 0.5,
    "web.origin": "https://other.example",
    "web.s3Origin": "https://other.example",
    "web.login": [{"podSelector": {}}],
    "networkPolicy.clients": [{"podSelector": {}}],
    "networkPolicy.scrapers": [{"podSelector": {}}],
    "networkPolicy.outside": ["10.1.0.0/16"],
    "analyzer.topologySpread": [{"maxSkew": 1}],
}
QUANTITIES = frozenset({"cpu", "cpuLimit", "memory", "scratch"})
LISTS_OF_TEXT = frozenset({"pullSecrets", "drop"})
# Groups that the large size does not read, each with its reason.
UNREAD = {"dev": "a trial is another size"}


def leaves(values: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value that a user may set alone."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


def changed(path: tuple[str, ...], value: Any) -> Any:
    """Another value of the same kind."""
    if (dotted := ".".join(path)) in CHANGED:
        return CHANGED[dotted]
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case float():
            return value / 2
        case str() if path[-1] in QUANTITIES:
            return "777m" if "cpu" in path[-1] else "3333Mi"
        case str():
            return "NodePort" if path[-1] == "type" and path[-2] == "service" else "changed"
        case list():
            return ["changed"] if path[-1] in LISTS_OF_TEXT else [{"name": "changed"}]
    return {"changed": "yes"}


def nested(path: tuple[str, ...], value: Any) -> Any:
    for key in reversed(path):
        value = {key: value}
    return value


def merged(left: Mapping[str, Any], right: Mapping[str, Any]) -> dict[str, Any]:
    both = {key: merged(left[key], right[key]) for key in left.keys() & right.keys() if isinstance(right[key], dict)}
    return {**left, **right, **both}


@pytest.mark.slow
def test_every_value_changes_what_is_rendered(tmp_path: Path) -> None:
    """Each one changed alone; a value that no template reads fails here."""
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    base = merged(yaml.safe_load(Path(values("large")).read_text()), EVERYTHING)

    def render(given: Mapping[str, Any]) -> str:
        file = tmp_path / "values.yaml"
        file.write_text(yaml.safe_dump(given))
        rendered = helm("template", RELEASE, str(CHART), "--namespace", NAMESPACE, "--values", str(file))
        return rendered.stdout or rendered.stderr

    before = render(base)
    assert before.startswith("---")
    unread, rejected = [], {}
    for path, value in leaves(merged(defaults, base)):
        if path[0] in UNREAD:
            continue
        after = render(merged(base, nested(path, changed(path, value))))
        if after == before:
            unread.append(".".join(path))
        if not after.startswith("---"):
            rejected[".".join(path)] = after
    assert rejected == {}
    assert unread == []


def test_no_hook_deletes() -> None:
    """`kubectl apply` runs a hook like any other object; only the migration and the test are hooks."""
    hooks = {
        one["metadata"]["labels"]["app.kubernetes.io/component"]: one["metadata"]["annotations"]["helm.sh/hook"]
        for size in SIZES
        for one in manifests(size)
        if "helm.sh/hook" in one["metadata"].get("annotations", {})
    }
    assert hooks == {"migrate": "pre-install,pre-upgrade", "test": "test"}


def test_argo_cd_migrates_before_a_sync_and_finds_no_change_in_a_second_rendering() -> None:
    """Its own annotations, which replace Helm's. An object that changed by itself would be out of sync for ever."""
    hooks = [one for one in manifests("argocd") if "argocd.argoproj.io/hook" in one["metadata"].get("annotations", {})]
    assert [one["metadata"]["labels"]["app.kubernetes.io/component"] for one in hooks] == ["migrate"]
    annotations = hooks[0]["metadata"]["annotations"]
    assert annotations["argocd.argoproj.io/hook"] == "PreSync"
    assert annotations["argocd.argoproj.io/hook-delete-policy"] == "BeforeHookCreation,HookSucceeded"
    again = helm("template", RELEASE, str(CHART), "--namespace", NAMESPACE, "--values", values("argocd"))
    assert again.stdout == text("argocd")


def test_with_public_keys_only_the_controller_gets_an_api_token() -> None:
    """On EKS, for example, `jobs` and `upload` need no token to read the keys."""
    assert {name for name, pod in pods("small").items() if "api-token" in json.dumps(pod)} == {"controller"}


def test_the_role_equals_the_documented_rules() -> None:
    """The Role has the rules of kubernetes/role.yaml, which another test compares with the controller's calls."""
    documented = yaml.safe_load((ROOT / "services/controller/kubernetes/role.yaml").read_text())
    assert of_kind("gpu", "Role")["controller"]["rules"] == documented["rules"]
    assert of_kind("gpu", "ClusterRole")["controller"]["rules"] == documented["clusterRules"]
    with_a_queue = of_kind("large", "Role")["controller"]["rules"]
    assert with_a_queue == documented["rules"] + documented["queueRules"]


@pytest.mark.parametrize("size", SIZES)
def test_every_pod_has_a_network_policy(size: str) -> None:
    """The policy covers ingress and egress."""
    policies = of_kind(size, "NetworkPolicy")
    walled = pods(size).keys() - {"test", "trial", "s3"} | {"analyzer"}
    assert walled <= policies.keys()
    for policy in policies.values():
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]


def test_an_analyzer_reaches_only_jobs_upload_and_s3() -> None:
    """And no pod may connect to it."""
    spec = of_kind("laptop", "NetworkPolicy")["analyzer"]["spec"]
    assert spec["podSelector"]["matchLabels"] == {
        "app.kubernetes.io/component": "analyzer",
        "crease.dev/cluster": "nets-crease",
    }
    assert spec["ingress"] == []
    reached = {(component(rule), port["port"]) for rule in spec["egress"] for port in rule["ports"]}
    assert reached == {("anything", 53), ("jobs", 50051), ("upload", 50052), ("s3", 4566)}


def test_only_the_login_reaches_the_page() -> None:
    """And the page reaches jobs, upload, S3 and the issuers' keys; it trusts the issuers of people alone."""
    spec = of_kind("large", "NetworkPolicy")["web"]["spec"]
    [opened, scraped] = spec["ingress"]
    assert (opened["from"], opened["ports"]) == (LOGIN, [{"port": 50060}])
    assert scraped["ports"] == [{"port": 9090}]
    ports = {port["port"] for rule in spec["egress"] for port in rule["ports"]}
    assert ports == {53, 50051, 50052, 9000, 443, 6443}
    container = of_kind("large", "Deployment")["web"]["spec"]["template"]["spec"]["containers"][0]
    assert {one["kind"] for one in json.loads(environment(container)["CREASE_ISSUERS"])} == {"people"}


def test_the_page_has_the_host_of_its_origin() -> None:
    """By an Ingress or the Gateway API, whose pods sign people in; without them nothing routes to the page."""
    ways = ("web.ingress.enabled=true", "web.gateway.enabled=true", "web.gateway.parentRefs[0].name=edge")
    made = _templated(
        RELEASE, "--values", values("large"), "--set", f"web.origin=https://crease.example.com:8443,{','.join(ways)}"
    )
    [ingress], [route] = ([one["spec"] for one in made if one["kind"] == kind] for kind in ("Ingress", "HTTPRoute"))
    assert [rule["host"] for rule in ingress["rules"]] == route["hostnames"] == ["crease.example.com"]
    [[to]] = [rule["backendRefs"] for rule in route["rules"]]
    assert to == {"name": "crease-web", "port": 50060}
    assert not {"Ingress", "HTTPRoute"} & {one["kind"] for one in manifests("large")}


def test_the_s3_port_comes_from_its_endpoint() -> None:
    """Without an endpoint it is 443, the port of AWS."""
    outside = [{"ipBlock": {"cidr": "10.0.0.0/8"}}]
    assert {"to": outside, "ports": [{"port": 9000}]} in of_kind("large", "NetworkPolicy")["analyzer"]["spec"]["egress"]
    everywhere = [{"ipBlock": {"cidr": "0.0.0.0/0"}}, {"ipBlock": {"cidr": "::/0"}}]
    assert {"to": everywhere, "ports": [{"port": 443}]} in of_kind("small", "NetworkPolicy")["analyzer"]["spec"][
        "egress"
    ]


def test_the_prometheus_rule_contains_the_tested_alerts() -> None:
    """The rules of files/alerts.yaml with the runbook prefix and the labels of the values."""
    rule = of_kind("large", "PrometheusRule")["alerts"]
    assert rule["metadata"]["labels"]["release"] == "prometheus"
    written = (CHART / "files" / "alerts.yaml").read_text()
    there = written.replace("runbook_url: docs/", "runbook_url: https://example.com/crease/docs/")
    assert rule["spec"] == yaml.safe_load(there)
    assert not of_kind("small", "PrometheusRule")


def test_the_dashboard_config_map_contains_the_file() -> None:
    """With dashboard.enabled=true."""
    made = _templated(RELEASE, "--values", values("small"), "--set", "dashboard.enabled=true")
    maps = [one for one in made if one["kind"] == "ConfigMap"]
    dashboard = next(one for one in maps if one["metadata"]["labels"].get("grafana_dashboard") == "1")
    assert json.loads(dashboard["data"]["crease.json"]) == json.loads((CHART / "files/dashboard.json").read_text())


def test_prometheus_reaches_the_metrics_port_of_each_program() -> None:
    """The PodMonitor names the metrics port of every program, and the NetworkPolicy allows it. For the controller and
    the relay it is the only open port."""
    made = _templated(RELEASE, "--values", values("large"), "--set", "metrics.podMonitor=true")
    [monitor] = [one for one in made if one["kind"] == "PodMonitor"]
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
def test_wrong_values_are_rejected_by_name(setting: str, sentence: str) -> None:
    """The message names the key."""
    refused = helm("template", RELEASE, str(CHART), "--set", "dev.embedded=true", "--set", setting)
    assert refused.returncode != 0
    assert sentence in refused.stderr


def test_missing_required_values_are_named() -> None:
    """helm renders no release without a database, a bucket and an issuer."""
    refused = helm("template", RELEASE, str(CHART))
    assert refused.returncode != 0
    for key in ("database.secret", "s3.bucket", "s3.region", "issuers"):
        assert key in refused.stderr


def test_values_and_schema_have_the_same_keys() -> None:
    """values.yaml has a default for each key of the schema, and no other key."""
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert set(keys(defaults, schema, schema)) == set()


def keys(defaults: Any, schema: Any, whole: Any, path: str = "") -> Iterator[str]:
    """The paths at which values and schema differ."""
    reference = schema.get("$ref", "")
    schema = whole["$defs"][reference.rpartition("/")[2]] if reference else schema
    if "properties" not in schema or path == ".image.digests":
        return
    for key in defaults.keys() ^ (schema["properties"].keys() - {"global"}):
        yield f"{path}.{key}"
    for key in defaults.keys() & schema["properties"].keys():
        yield from keys(defaults[key], schema["properties"][key], whole, f"{path}.{key}")


def environment(container: Manifest) -> dict[str, str]:
    """A container's variables; references to other objects get a stand-in value."""
    stand_ins = {"CREASE_DATABASE_URL": "postgresql://user:secret@db:5432/crease", "CREASE_NAMESPACE": NAMESPACE}
    return {one["name"]: str(one.get("value", stand_ins.get(one["name"], "x"))) for one in container.get("env", [])}


def known(settings: type[Settings]) -> set[str]:
    """The environment variables of a program's settings."""
    return {str(field.validation_alias or f"CREASE_{name.upper()}") for name, field in settings.model_fields.items()}


def check_ports(size: str, program: str, listen: str) -> None:
    """The listen address, the container port and the Service port agree."""
    container = of_kind(size, "Deployment")[program]["spec"]["template"]["spec"]["containers"][0]
    assert listen == f"[::]:{container['ports'][0]['containerPort']}"
    service = of_kind(size, "Service").get(program)
    if service:
        assert [port["port"] for port in service["spec"]["ports"]] == [container["ports"][0]["containerPort"]]


def holders(programs: Mapping[str, set[str]], variable: str) -> set[str]:
    return {name for name, variables in programs.items() if variable in variables}


def component(rule: Manifest) -> str:
    """The component that an egress rule allows."""
    if "to" not in rule:
        return "anything"
    return str(rule["to"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/component"])
