"""The controller's settings: those of every launcher, then those of each launcher.

CREASE_LAUNCHER   local       processes of this machine        LocalSettings
                  kubernetes  one namespace of a cluster       KubernetesSettings
"""

import re
import socket
import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, NonNegativeFloat, PositiveFloat, PositiveInt

from services.controller.core.limits import Limits
from services.controller.quantity import bytes_of, cores_of
from services.naming import CONTROLLER_LEASE
from services.settings import FromJson, Issuers, ServerSettings
from services.settings import Settings as Shared

LABEL_VALUE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


def _label_value(text: str) -> str:
    if not LABEL_VALUE.fullmatch(text):
        raise ValueError("must be 1 to 63 letters, digits, '-', '_' or '.', with a letter or digit at each end")
    return text


def _image(text: str) -> str:
    if not text or any(character.isspace() for character in text):
        raise ValueError("must name an image, as registry/name:tag or registry/name@sha256:digest")
    return text


def _bytes(text: str) -> str:
    bytes_of(text)
    return text


def _cores(text: str) -> str:
    cores_of(text)
    return text


LabelValue = Annotated[str, AfterValidator(_label_value)]
# Kubernetes quantities: 2Gi; 500m.
Bytes = Annotated[str, AfterValidator(_bytes)]
Cores = Annotated[str, AfterValidator(_cores)]
# JSON in the shape of a pod's spec.
Objects = Annotated[tuple[dict[str, Any], ...], FromJson]
Object = Annotated[dict[str, Any], FromJson]
Strings = Annotated[tuple[str, ...], FromJson]
StringMap = Annotated[dict[str, str], FromJson]


class LauncherChoice(Shared):
    # The system that runs analyses.
    launcher: Literal["local", "kubernetes"] = "local"


class Settings(LauncherChoice, ServerSettings):
    """The controller serves only health and reflection, so it trusts no issuer."""

    # The controller believes no issuer: its server has no RPC of its own.
    issuers: Issuers = ()
    # host:port at which the server listens.
    listen: str = "127.0.0.1:50053"

    # host:port of jobs.
    jobs_endpoint: str
    # host:port; only the analyzers call it
    upload_endpoint: str
    # The file of the controller's token for `jobs`.
    token_file: Path
    # The name of this cluster: one `jobs` may serve several, and each launch belongs to one.
    cluster: LabelValue = "laptop"
    # The number of analyses that may run at once.
    capacity: PositiveInt = 1
    # The time between two rounds; an event shortens it, an expensive round lengthens it.
    tick_seconds: PositiveFloat = 1.0
    # The longest run of one analysis, from the start of its container. It is shorter than its token's life, 6 hours.
    deadline_seconds: PositiveFloat = 4 * 3600.0
    # The time that an analyzer gets to end by itself after its launch has ended.
    linger_seconds: NonNegativeFloat = 5.0
    # The time before a workload is deleted whose launch `jobs` never opened.
    orphan_grace_seconds: NonNegativeFloat = 60.0
    # Whether such a workload is deleted at all; it is logged in any case.
    delete_orphans: bool = True
    # The time to repair a wrong image or configuration before the launch fails.
    start_patience_seconds: NonNegativeFloat = 30.0
    # The longest time from the creation of a workload to its start; then the job is queued again.
    wait_seconds: PositiveFloat = 4 * 3600.0
    # The longest wait of a launch on `auto` for its GPU; the next launch is placed on the CPU.
    gpu_wait_seconds: PositiveFloat = 120.0
    # A workload on a dead node is deleted by force after this time, without proof of its end. 0: never.
    force_after_seconds: NonNegativeFloat = 0.0
    # The number of actions that may run at once.
    parallel: PositiveInt = 16
    # The analyzer's command, to which `--job-id` and `--launch` are added. Empty: the image's own command.
    analyzer_command: Strings = ()

    @property
    def limits(self) -> Limits:
        """The limits that `decide` applies."""
        return Limits(
            capacity=self.capacity,
            deadline=timedelta(seconds=self.deadline_seconds),
            linger=timedelta(seconds=self.linger_seconds),
            never_opened_grace=timedelta(seconds=self.orphan_grace_seconds) if self.delete_orphans else None,
            start_patience=timedelta(seconds=self.start_patience_seconds),
            wait=timedelta(seconds=self.wait_seconds),
            gpu_wait=timedelta(seconds=self.gpu_wait_seconds),
            force_after=timedelta(seconds=self.force_after_seconds) if self.force_after_seconds else None,
        )


class LocalSettings(Settings):
    # The folder of the process records.
    state_folder: Path
    # The folder of the laptop's issuer, which makes the processes' tokens.
    issuer_folder: Path
    # Seconds for which the record and the log of a launch are kept, at least a day.
    keep_launches_seconds: Annotated[float, Field(ge=86400)] = 7 * 86400.0
    # Passed to the analyzer if set; otherwise the analyzer uses its default.
    mediapipe_pose_model_path: Path | None = Field(default=None, validation_alias="MEDIAPIPE_POSE_MODEL_PATH")
    analyzer_command: Strings = (sys.executable, "-m", "services.analyzer")


class KubernetesSettings(Settings):
    # Unset: the ServiceAccount of the controller's pod.
    kubeconfig: Path | None = None
    # The namespace of the analyses, the only one that the controller accesses.
    namespace: LabelValue
    # The name of this replica, as the holder of the Lease.
    identity: LabelValue = Field(default_factory=socket.gethostname)
    # A ConfigMap of this release. It owns the Kubernetes Jobs and the Lease, which are deleted with it. Empty: none.
    release: str = ""
    # The Lease that elects the working replica. Empty: every replica works, which is as safe.
    leader_lease: str = CONTROLLER_LEASE
    # A leader that does not renew its Lease for this long is replaced.
    leader_seconds: PositiveFloat = 15.0
    # A cache older than this is stale, and the controller takes no action.
    stale_seconds: PositiveFloat = 60.0
    # The time between two full lists.
    relist_seconds: PositiveFloat = 300.0
    # Whether to watch nodes, for free GPUs and dead nodes. It is the only right beyond the namespace.
    watch_nodes: bool = True

    # The settings from here on describe the Kubernetes Job of a launch.

    # The analyzer's image.
    analyzer_image: Annotated[str, AfterValidator(_image)]
    # When a node pulls the image.
    image_pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    # Names of the Secrets with which a node pulls the image.
    image_pull_secrets: Strings = ()
    # The ServiceAccount of the pods; `jobs` must know it as the analyzer's.
    analyzer_service_account: LabelValue = "crease-analyzer"
    # The life of the pod's token for `jobs`. The analyzer reads it once, at its start.
    analyzer_token_seconds: Annotated[int, Field(ge=600, le=86400)] = 3600
    # A ConfigMap with ca.crt, the authority that the analyzer trusts at https://… endpoints. Empty: public ones.
    analyzer_ca_config_map: str = ""
    # More environment variables of the analyzer. The Job shows them, so none may be a secret.
    analyzer_environment: StringMap = Field(default_factory=dict)
    # The user id and the group id; not root.
    analyzer_user: PositiveInt = 65532
    # CPU that a pod requests.
    analyzer_cpu: Cores = "1"
    # CPU limit of a pod. Empty: no limit.
    analyzer_cpu_limit: Cores | Literal[""] = ""
    # The request and the limit; after an out-of-memory the next launch gets 1.5 times as much.
    analyzer_memory: Bytes = "2Gi"
    # For the video and its artifacts. A pod that exceeds it is evicted.
    analyzer_scratch: Bytes = "8Gi"
    # The time between SIGTERM and SIGKILL.
    analyzer_grace_seconds: PositiveInt = 30
    # The time that ended Jobs and their logs are kept.
    ttl_seconds: PositiveInt = 3600
    # PriorityClass of the pods.
    priority_class: str = ""
    # RuntimeClass of the pods.
    runtime_class: str = ""
    # More labels of the Kubernetes Jobs and their pods.
    pod_labels: StringMap = Field(default_factory=dict)
    # Security context of the pods. Empty: that of the Pod Security level `restricted`, with the user above.
    pod_security_context: Object = Field(default_factory=dict)
    # Security context of the containers. Empty: that of the level `restricted`, with a read-only root.
    container_security_context: Object = Field(default_factory=dict)
    # More volumes of the pods.
    extra_volumes: Objects = ()
    # More mounts of the analyzer's container.
    extra_volume_mounts: Objects = ()
    # Annotations of the pods.
    pod_annotations: StringMap = Field(default_factory=dict)
    # Node selector of the pods.
    node_selector: StringMap = Field(default_factory=dict)
    # Tolerations of the pods.
    tolerations: Objects = ()
    # Topology spread constraints of the pods.
    topology_spread: Objects = ()
    # Affinity of the pods.
    affinity: Object = Field(default_factory=dict)
    # Kueue's LocalQueue. If set, Jobs are created suspended, and Kueue admits them.
    queue_name: str = ""
    # Kueue's WorkloadPriorityClass. Empty: the priority of the pods' PriorityClass counts in the queue, too.
    queue_priority_class: str = ""

    # The resource of a GPU: nvidia.com/gpu, amd.com/gpu, nvidia.com/mig-1g.10gb. Empty: the cluster has no GPUs.
    gpu_resource: str = ""
    # Whether a pool of GPU nodes grows from zero, so that no GPU has to be free.
    gpu_scales_up: bool = False
    # Node selector of pods that are placed on a GPU, in addition.
    gpu_node_selector: StringMap = Field(default_factory=dict)
    # Tolerations of pods that are placed on a GPU, in addition.
    gpu_tolerations: Objects = ()


def load() -> LocalSettings | KubernetesSettings:
    """The settings of the launcher that CREASE_LAUNCHER names. Exits with code 78 and one line for each wrong one."""
    return KubernetesSettings.load() if LauncherChoice.load().launcher == "kubernetes" else LocalSettings.load()
