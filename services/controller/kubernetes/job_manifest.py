"""Writes the Kubernetes Job of a launch, as one pure function.

The Job is in the API's own JSON. It holds no secret, because every reader of Jobs reads all of it. Its pod
authenticates to `jobs` by a token for Crease's own audience, which the API server rejects.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from crease.analysis.v1.launch_pb2 import Launch
from crease.jobs.v1.job_pb2 import ACCELERATOR_GPU
from services import naming
from services.controller.core.launcher import Placement, accelerator_word, labels_of, name_of
from services.controller.kubernetes.kueue import PRIORITY_LABEL, QUEUE_LABEL
from services.controller.quantity import bytes_of, mebibytes
from services.controller.settings import KubernetesSettings

MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "crease-controller"

CONTAINER = "analyzer"
TOKEN_FOLDER = "/var/run/secrets/crease.dev"  # noqa: S105 (a folder)
CA_FOLDER = "/var/run/secrets/ca"
SCRATCH = "/tmp"  # noqa: S108 (the pod's own)

Manifest = dict[str, Any]
NO_LABELS: Mapping[str, str] = MappingProxyType({})


def build_manifest(
    launch: Launch,
    placement: Placement,
    settings: KubernetesSettings,
    release_labels: Mapping[str, str] = NO_LABELS,
    owner_references: Sequence[Manifest] = (),
) -> Manifest:
    """The Kubernetes Job of a launch, in the namespace of the settings. It is marked and owned by its release."""
    labels = _labels(launch, placement, settings) | {**release_labels}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name_of(launch),
            "namespace": settings.namespace,
            "labels": labels | {naming.STATUS_LABEL: "queued"} | _queue_labels(settings),
            "annotations": {
                naming.CREATED_BY_ANNOTATION: f"{MANAGER} of cluster {settings.cluster}",
                naming.WHY_ANNOTATION: f"Runs launch {launch.launch_no} of job {launch.job_id}",
                naming.PLACEMENT_REASON_ANNOTATION: placement.reason,
            },
            **({"ownerReferences": [*owner_references]} if owner_references else {}),
        },
        "spec": {
            **({"suspend": True} if settings.queue_name else {}),
            "parallelism": 1,
            "completions": 1,
            # A retry is a new launch, which `jobs` decides on.
            "backoffLimit": 0,
            # No second pod while the first is still terminating.
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": _failure_rules()},
            # Holds where the controller is down; Kubernetes counts the time to the pod's start too.
            "activeDeadlineSeconds": int(settings.wait_seconds + settings.deadline_seconds),
            "ttlSecondsAfterFinished": settings.ttl_seconds,
            "template": {
                "metadata": {
                    "labels": labels,
                    **({"annotations": settings.pod_annotations} if settings.pod_annotations else {}),
                },
                "spec": _pod(launch, placement, settings),
            },
        },
    }


def build_selector(settings: KubernetesSettings) -> str:
    """The label selector for the objects of this cluster's controller."""
    return f"{MANAGED_BY}={MANAGER},{naming.CLUSTER_LABEL}={settings.cluster}"


def _labels(launch: Launch, placement: Placement, settings: KubernetesSettings) -> dict[str, str]:
    return settings.pod_labels | {
        naming.NAME_LABEL: naming.PRODUCT,
        naming.COMPONENT_LABEL: naming.ANALYZER_COMPONENT,
        "app.kubernetes.io/part-of": naming.PRODUCT,
        MANAGED_BY: MANAGER,
        naming.CLUSTER_LABEL: settings.cluster,
        **labels_of(launch),
        naming.SESSION_LABEL: launch.session_id,
        naming.OWNER_LABEL: launch.owner_hash,
        naming.ACCELERATOR_LABEL: accelerator_word(placement.on),
    }


def _queue_labels(settings: KubernetesSettings) -> dict[str, str]:
    labels = {QUEUE_LABEL: settings.queue_name, PRIORITY_LABEL: settings.queue_priority_class}
    return {key: value for key, value in labels.items() if value} if settings.queue_name else {}


def _failure_rules() -> list[Manifest]:
    """Each rule fails the Job with a condition that names the pod's failure, and that outlives the pod.

    The disruption comes first, because a drained pod has an exit code too.
    """
    return [
        {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onExitCodes": {"containerName": CONTAINER, "operator": "NotIn", "values": [0]}},
    ]


def _pod(launch: Launch, placement: Placement, settings: KubernetesSettings) -> Manifest:
    on_gpu = placement.on == ACCELERATOR_GPU
    tolerations = [*settings.tolerations, *(settings.gpu_tolerations if on_gpu else ())]
    optional = {
        "imagePullSecrets": [{"name": name} for name in settings.image_pull_secrets],
        "nodeSelector": settings.node_selector | (settings.gpu_node_selector if on_gpu else {}),
        "tolerations": tolerations,
        "affinity": settings.affinity,
        "topologySpreadConstraints": [*settings.topology_spread],
        "priorityClassName": settings.priority_class,
        "runtimeClassName": settings.runtime_class,
    }
    ca_config_map = settings.analyzer_ca_config_map
    return {
        "restartPolicy": "Never",
        "serviceAccountName": settings.analyzer_service_account,
        # That token is for the API server, which the analyzer never calls.
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": settings.analyzer_grace_seconds,
        "securityContext": settings.pod_security_context
        or {
            "runAsNonRoot": True,
            "runAsUser": settings.analyzer_user,
            "runAsGroup": settings.analyzer_user,
            "fsGroup": settings.analyzer_user,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(launch, placement, settings)],
        "volumes": [
            {"name": "scratch", "emptyDir": {"sizeLimit": settings.analyzer_scratch}},
            {"name": "token", "projected": {"defaultMode": 0o440, "sources": [_token_source(settings)]}},
            *([{"name": "ca", "configMap": {"name": ca_config_map}}] if ca_config_map else []),
            *settings.extra_volumes,
        ],
        **{key: value for key, value in optional.items() if value},
    }


def _token_source(settings: KubernetesSettings) -> Manifest:
    return {
        "serviceAccountToken": {
            "audience": settings.audience,
            "expirationSeconds": settings.analyzer_token_seconds,
            "path": "token",
        }
    }


def _container(launch: Launch, placement: Placement, settings: KubernetesSettings) -> Manifest:
    return {
        "name": CONTAINER,
        "image": settings.analyzer_image,
        "imagePullPolicy": settings.image_pull_policy,
        **({"command": [*settings.analyzer_command]} if settings.analyzer_command else {}),
        "args": ["--job-id", launch.job_id, "--launch", str(launch.launch_no)],
        "env": [{"name": name, "value": value} for name, value in _environment(launch, placement, settings).items()],
        "resources": _resources(launch, placement, settings),
        "securityContext": settings.container_security_context
        or {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "scratch", "mountPath": SCRATCH},
            {"name": "token", "mountPath": TOKEN_FOLDER, "readOnly": True},
            *([{"name": "ca", "mountPath": CA_FOLDER, "readOnly": True}] if settings.analyzer_ca_config_map else []),
            *settings.extra_volume_mounts,
        ],
        # Without a termination message, `kubectl describe` shows the last lines of the log.
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def _environment(launch: Launch, placement: Placement, settings: KubernetesSettings) -> dict[str, str]:
    # On a node with a GPU the analyzer tries the GPU and falls back to the CPU by itself.
    accelerator = "auto" if placement.on == ACCELERATOR_GPU else "cpu"
    ca = {"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": f"{CA_FOLDER}/ca.crt"} if settings.analyzer_ca_config_map else {}
    # A repeated create finds the first Job, so the trace has one span for each launch.
    trace = {"CREASE_OTLP_ENDPOINT": settings.otlp_endpoint, "CREASE_TRACE_PARENT": launch.trace_parent}
    return (
        settings.analyzer_environment
        | ca
        | (trace if settings.otlp_endpoint and launch.trace_parent else {})
        | {
            "CREASE_JOBS_ENDPOINT": settings.jobs_endpoint,
            "CREASE_UPLOAD_ENDPOINT": settings.upload_endpoint,
            "CREASE_TOKEN_FILE": f"{TOKEN_FOLDER}/token",
            "CREASE_ACCELERATOR": accelerator,
            "HOME": SCRATCH,
            "TMPDIR": SCRATCH,
        }
    )


def _resources(launch: Launch, placement: Placement, settings: KubernetesSettings) -> Manifest:
    # Request and limit are equal, but for the CPU.
    memory = mebibytes(bytes_of(settings.analyzer_memory) * (launch.memory_factor or 1.0))
    equal = {"memory": memory, "ephemeral-storage": settings.analyzer_scratch}
    if placement.on == ACCELERATOR_GPU:
        equal[settings.gpu_resource] = "1"
    cpu_limit = {"cpu": settings.analyzer_cpu_limit} if settings.analyzer_cpu_limit else {}
    return {"requests": {"cpu": settings.analyzer_cpu} | equal, "limits": cpu_limit | equal}
