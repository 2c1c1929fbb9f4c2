"""The Kubernetes Job of a launch equals the committed manifest; run as a program, this file writes the manifests.

The tests marked `cluster` prove that the API server accepts it.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.aio.client import ApiClient

from crease.jobs.v1.job_pb2 import ACCELERATOR_CPU, ACCELERATOR_GPU
from services.controller.core.launcher import Placement
from services.controller.kubernetes.job_manifest import Manifest, build_manifest
from services.controller.settings import KubernetesSettings
from testing.fakes.controller import launch

MANIFESTS = Path(__file__).with_name("manifests")
LAUNCH = launch(
    "0d5e0bd6-6c5c-4a44-bd3f-6a8f3b7a1c11", 2,
    session_id="6f3b1c1e-93a4-4a37-9f5e-57d5c0d2a9a0", owner_hash="8f434346648f6b96", memory_factor=1.5,
    trace_parent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
)  # fmt: skip
PLAIN: dict[str, Any] = {
    "jobs_endpoint": "jobs.crease.svc:50051", "upload_endpoint": "upload.crease.svc:50052",
    "token_file": Path("/token"), "cluster": "nets", "namespace": "crease", "identity": "controller-0",
    "analyzer_image": "registry.example/crease-analyzer:1.0.0",
}  # fmt: skip
EVERYTHING = PLAIN | {
    "image_pull_policy": "Always", "image_pull_secrets": '["registry"]', "analyzer_service_account": "analyzer",
    "analyzer_command": ("python", "-m", "services.analyzer"), "analyzer_environment": '{"LANG": "C.UTF-8"}',
    "analyzer_ca_config_map": "company-ca", "otlp_endpoint": "http://collector.monitoring:4317",
    "analyzer_user": 10001, "analyzer_cpu": "500m", "analyzer_cpu_limit": "2", "analyzer_memory": "1.5Gi",
    "analyzer_scratch": "6Gi", "priority_class": "batch", "runtime_class": "nvidia", "queue_name": "analyses",
    "queue_priority_class": "urgent",
    "pod_annotations": '{"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}',
    "node_selector": '{"pool": "analysis"}', "tolerations": '[{"key": "analysis", "operator": "Exists"}]',
    "topology_spread": """[{"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone",
        "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {"matchLabels": {"crease.dev/cluster": "nets"}}}]""",
    "affinity": """{"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference":
        {"matchExpressions": [{"key": "arch", "operator": "In", "values": ["amd64"]}]}}]}}""",
    "gpu_resource": "nvidia.com/gpu", "gpu_node_selector": '{"gpu": "true"}',
    "gpu_tolerations": '[{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]',
}  # fmt: skip
ON_CPU = Placement(ACCELERATOR_CPU, "The CPU: no node has a free nvidia.com/gpu")
ON_GPU = Placement(ACCELERATOR_GPU, "A GPU: node g1 has 1 nvidia.com/gpu free")
CASES = {"plain": (ON_CPU, PLAIN), "everything": (ON_GPU, EVERYTHING)}


def manifest_of(case: str) -> Manifest:
    placement, values = CASES[case]
    return build_manifest(LAUNCH, placement, KubernetesSettings.model_validate(values))


@pytest.mark.parametrize("case", CASES)
def test_it_equals_the_committed_one(case: str) -> None:
    """So a commit shows the effect of a change on the cluster."""
    assert manifest_of(case) == yaml.safe_load((MANIFESTS / f"{case}.yaml").read_text())


@pytest.mark.parametrize("case", CASES)
def test_every_field_is_one_of_the_api(case: str) -> None:
    """The API drops unknown fields silently; its own model keeps every field of ours."""

    class Reply:
        data = json.dumps(manifest_of(case))

    client = ApiClient.__new__(ApiClient)
    model = client.deserialize(Reply.data, "V1Job", "application/json")
    assert client.sanitize_for_serialization(model) == manifest_of(case)


@pytest.mark.parametrize("case", CASES)
def test_it_holds_no_secret(case: str) -> None:
    """Every reader of Jobs reads all of it: it has no token, and no setting from a Secret."""
    text = json.dumps(manifest_of(case))
    env = manifest_of(case)["spec"]["template"]["spec"]["containers"][0]["env"]
    assert "secretKeyRef" not in text
    assert "secretName" not in text
    assert not any("token" in variable["value"] for variable in env if variable["name"] != "CREASE_TOKEN_FILE")


@pytest.mark.parametrize("case", CASES)
def test_argo_cd_does_not_prune_it(case: str) -> None:
    """Argo CD deletes what carries its label or its annotation and is not in the chart."""
    metadata = manifest_of(case)["metadata"]
    assert "app.kubernetes.io/instance" not in metadata["labels"]
    assert not [key for key in metadata["annotations"] if key.startswith("argocd.argoproj.io/")]


if __name__ == "__main__":
    for name in CASES:
        (MANIFESTS / f"{name}.yaml").write_text(yaml.safe_dump(manifest_of(name), sort_keys=False, width=120))
