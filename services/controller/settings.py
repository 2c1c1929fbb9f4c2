"""What the controller is told from outside: what every launcher needs, then what one of the two needs.

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

from services.controller.core.decide import Limits
from services.controller.kubernetes.quantity import bytes_of, cores_of
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
# As Kubernetes writes them: 2Gi; 500m.
Bytes = Annotated[str, AfterValidator(_bytes)]
Cores = Annotated[str, AfterValidator(_cores)]
# In the shape that a pod's spec has.
Objects = Annotated[tuple[dict[str, Any], ...], FromJson]
Object = Annotated[dict[str, Any], FromJson]
Words = Annotated[tuple[str, ...], FromJson]
Map = Annotated[dict[str, str], FromJson]


class Which(Shared):
    # What runs analyses.
    launcher: Literal["local", "kubernetes"] = "local"


class Settings(Which, ServerSettings):
    """Its server has no RPC of its own: it listens for health and reflection, and believes no issuer."""

    # The controller believes no issuer: its server has no RPC of its own.
    issuers: Issuers = ()
    # host:port at which the server listens.
    listen: str = "127.0.0.1:50053"

    # host:port of jobs.
    jobs_endpoint: str
    # host:port; the controller never calls it, its analyzers do
    upload_endpoint: str
    # How the controller proves itself to `jobs`.
    token_file: Path
    # One `jobs` may serve several clusters; each launch belongs to one of them.
    cluster: LabelValue = "laptop"
    # How many analyses may run at once.
    capacity: PositiveInt = 1
    # Longest wait between two looks; an event makes it shorter, and a look that took long makes the next wait longer.
    tick_seconds: PositiveFloat = 1.0
    # How long one analysis may run. Under the life of its token, which is 6 hours.
    deadline_seconds: PositiveFloat = 4 * 3600.0
    # How long one may still run when its launch has ended: an analyzer that has submitted its result ends by itself.
    linger_seconds: NonNegativeFloat = 5.0
    # How long one that nobody ever opened a launch for is left alone before it is deleted.
    orphan_grace_seconds: NonNegativeFloat = 60.0
    # Whether it is deleted at all; reported it is in any case.
    delete_orphans: bool = True
    # How long an image or a configuration may fail to start what runs, for whoever is just repairing it.
    start_patience_seconds: NonNegativeFloat = 30.0
    # How long a launch on `auto` may wait for the GPU it was placed on, before it is launched on the CPU instead.
    gpu_wait_seconds: PositiveFloat = 120.0
    # What cannot be proved gone, since its node is dead, is deleted by force after this long. 0: never.
    force_after_seconds: NonNegativeFloat = 0.0
    # How many requests to whatever runs analyses may be under way at once.
    parallel: PositiveInt = 16
    # What is started for a launch; `--job-id` and `--launch` follow. Empty: the analyzer of this installation, or
    # what the image starts by itself.
    analyzer_command: Words = ()

    @property
    def limits(self) -> Limits:
        """What `decide` has to know of all this."""
        return Limits(
            capacity=self.capacity,
            deadline=timedelta(seconds=self.deadline_seconds),
            linger=timedelta(seconds=self.linger_seconds),
            orphan_grace=timedelta(seconds=self.orphan_grace_seconds) if self.delete_orphans else None,
            start_patience=timedelta(seconds=self.start_patience_seconds),
            gpu_wait=timedelta(seconds=self.gpu_wait_seconds),
            force_after=timedelta(seconds=self.force_after_seconds) if self.force_after_seconds else None,
        )


class LocalSettings(Settings):
    # Where processes are recorded; it is to them what a namespace is to Kubernetes Jobs.
    state_folder: Path
    # The laptop's issuer, which makes their tokens.
    issuer_folder: Path
    # Passed on where it is set; the analyzer knows where its own model lies.
    mediapipe_pose_model_path: Path | None = Field(default=None, validation_alias="MEDIAPIPE_POSE_MODEL_PATH")
    analyzer_command: Words = (sys.executable, "-m", "services.analyzer")


class KubernetesSettings(Settings):
    # Empty: the ServiceAccount of the controller's own pod.
    kubeconfig: Path | None = None
    # Where analyses run: the only namespace that the controller touches.
    namespace: LabelValue
    # Which of its replicas this is: the holder of the Lease.
    identity: LabelValue = Field(default_factory=socket.gethostname)
    # The Lease by which one replica works and the others stand by. Empty: every replica works, which is as safe.
    leader_lease: str = CONTROLLER_LEASE
    # A leader that was not heard of for this long is followed by another.
    leader_seconds: PositiveFloat = 15.0
    # A look at the cluster that was not renewed for this long decides nothing.
    stale_seconds: PositiveFloat = 60.0
    # How often everything is listed again, whatever the watch has said.
    relist_seconds: PositiveFloat = 300.0
    # Whether nodes may be read: it tells free GPUs, and dead nodes from slow ones. The one right beyond the namespace.
    watch_nodes: bool = True

    # What follows is what a Kubernetes Job for a launch looks like.

    # The analyzer's image.
    analyzer_image: Annotated[str, AfterValidator(_image)]
    # When a node pulls the image.
    image_pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    # Names of the Secrets with which a node pulls the image.
    image_pull_secrets: Words = ()
    # The ServiceAccount whose name the pods' tokens carry. `jobs` must know it as the analyzer's.
    analyzer_service_account: LabelValue = "crease-analyzer"
    # Of the token by which a pod proves itself to `jobs`. It is read once, at the start, and renewed meanwhile.
    analyzer_token_seconds: Annotated[int, Field(ge=600, le=86400)] = 3600
    # A ConfigMap with ca.crt, the authority that the analyzer believes at https://… endpoints. Empty: public ones.
    analyzer_ca_config_map: str = ""
    # Given to the analyzer as they are; nothing secret belongs here.
    analyzer_environment: Map = Field(default_factory=dict)
    # The user and the group; not root.
    analyzer_user: PositiveInt = 65532
    # CPU that a pod requests.
    analyzer_cpu: Cores = "1"
    # CPU limit of a pod. Empty: no limit.
    analyzer_cpu_limit: Cores | Literal[""] = ""
    # What is requested is also the limit; a launch after one that ran out of memory gets 1.5 times as much.
    analyzer_memory: Bytes = "2Gi"
    # For the video and what is made of it. A pod that takes more is evicted.
    analyzer_scratch: Bytes = "8Gi"
    # How long an analyzer that is told to end gets to do so.
    analyzer_grace_seconds: PositiveInt = 30
    # How long what has ended can still be looked at with kubectl.
    ttl_seconds: PositiveInt = 3600
    # PriorityClass of the pods.
    priority_class: str = ""
    # RuntimeClass of the pods.
    runtime_class: str = ""
    # Annotations of the pods.
    pod_annotations: Map = Field(default_factory=dict)
    # Node selector of the pods.
    node_selector: Map = Field(default_factory=dict)
    # Tolerations of the pods.
    tolerations: Objects = ()
    # Topology spread constraints of the pods.
    topology_spread: Objects = ()
    # Affinity of the pods.
    affinity: Object = Field(default_factory=dict)
    # Kueue's LocalQueue: given, Kubernetes Jobs are created suspended, and it lets them begin.
    queue_name: str = ""

    # The resource that is a GPU here: nvidia.com/gpu, amd.com/gpu, nvidia.com/mig-1g.10gb. Empty: there are none.
    gpu_resource: str = ""
    # A pool of nodes with GPUs grows from zero, so that none need be seen to be free.
    gpu_scales_up: bool = False
    # Node selector of pods on a GPU, in addition.
    gpu_node_selector: Map = Field(default_factory=dict)
    # Tolerations of pods on a GPU, in addition.
    gpu_tolerations: Objects = ()


def load() -> LocalSettings | KubernetesSettings:
    """The settings of the launcher that CREASE_LAUNCHER names, or exit code 78 with one line for each culprit."""
    return KubernetesSettings.load() if Which.load().launcher == "kubernetes" else LocalSettings.load()
