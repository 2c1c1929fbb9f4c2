"""The names that several programs write or read: launches, labels, S3 keys, the controller's records.

A launch             analysis-<job>-<n>                    Kubernetes Job, record folder, prefix of its pods' names
A video's key        <video folder>/original.mp4
A launch's artifacts <video folder>/analysis/<job>/<n>/<quick|deep>/<artifact name>
"""

import re
from enum import StrEnum


class Discipline(StrEnum):
    """What a player does in a video."""

    BATTING = "batting"
    BOWLING = "bowling"
    WICKETKEEPING = "wicketkeeping"
    FIELDING = "fielding"


DISCIPLINES = tuple(Discipline)

# The events that a client may give, by the names that the analyzer's results use.
CONTACT_EVENT = "front_foot_contact"
GIVEN_EVENTS = {
    Discipline.BATTING: (CONTACT_EVENT, "fastest_hands"),
    Discipline.BOWLING: (CONTACT_EVENT, "release"),
    Discipline.WICKETKEEPING: (CONTACT_EVENT, "fastest_hands", "throw", "take"),
    Discipline.FIELDING: (CONTACT_EVENT, "fastest_hands", "throw", "take"),
}

# What people read of each event, in the order of an action.
EVENT_LABELS = {
    CONTACT_EVENT: "Front-foot contact",
    "fastest_hands": "Hands at their fastest",
    "release": "Ball release",
    "throw": "Throw",
    "take": "Take",
}

# Kinds of action that no sign proves: they are named as a possibility, unless the client gave them.
UNPROVEN_EVENTS = ("throw", "take")


def event_label(name: str, given: bool) -> str:
    """What people read of an event that was found, or given: `Ball release`, `Perhaps a throw`."""
    label = EVENT_LABELS[name]
    return f"Perhaps a {label.lower()}" if name in UNPROVEN_EVENTS and not given else label


# What people read of each camera view.
CAMERA_VIEWS = {"side": "from the side", "front": "from the front", "behind": "from behind"}

# Roles and features in a person's token.
COACH_PRO_PLUS = "coach_pro_plus"
ORG_PRO = "org_pro"
SUPERUSER = "superuser"
UPLOAD_FEATURE = "video_upload_enabled"
# Rows name a service that acted by this and its name; no person's subject begins with it.
SERVICE_ACTOR = "service:"
# An owner in settings and in the metadata of a service's call: a coach's subject or an organisation's id.
OWNER_NAME = r"(coach|org):.{1,255}"

# The pose model that images and `make setup` contain; its file is POSE_MODEL.task.
POSE_MODEL = "pose_landmarker_full"

# The root of all keys in the bucket.
VIDEOS_ROOT = "coach_plus/"
ANALYSIS_FOLDER = "analysis"
# The artifact from which a later job of the same video takes its landmarks.
LANDMARKS = "landmarks.npz"
# The artifact with the picture by which people recognise a video.
THUMBNAIL = "thumbnail.jpg"
# An artifact's name becomes the end of a key: no slash, no space, no leading dot.
ARTIFACT_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")

# Kubernetes' recommended labels, which the chart sets too: name, component, release.
NAME_LABEL = "app.kubernetes.io/name"
COMPONENT_LABEL = "app.kubernetes.io/component"
INSTANCE_LABEL = "app.kubernetes.io/instance"
PRODUCT = "crease"
ANALYZER_COMPONENT = "analyzer"
# Labels of a launch's Kubernetes Job and its pods. The local launcher records the first two as well.
JOB_LABEL = "crease.dev/job"
LAUNCH_LABEL = "crease.dev/launch"
CLUSTER_LABEL = "crease.dev/cluster"
# The UID of the release that created it.
RELEASE_LABEL = "crease.dev/release"
SESSION_LABEL = "crease.dev/session"
OWNER_LABEL = "crease.dev/owner-hash"
STATUS_LABEL = "crease.dev/status"
ACCELERATOR_LABEL = "crease.dev/accelerator"
# Annotations of a launch's Kubernetes Job.
WHY_ANNOTATION = "crease.dev/why"
PLACEMENT_REASON_ANNOTATION = "crease.dev/placement-reason"
CREATED_BY_ANNOTATION = "crease.dev/created-by"
# The reporting component of the controller's Kubernetes Events.
CONTROLLER_COMPONENT = "crease.dev/controller"

# The Lease that the controller's replicas compete for; the chart puts the release's name before the suffix.
CONTROLLER_LEASE_SUFFIX = "-controller"
CONTROLLER_LEASE = f"{PRODUCT}{CONTROLLER_LEASE_SUFFIX}"
# The controller launches nothing new while its Lease has this annotation. The value is a reason for people.
DRAINED_ANNOTATION = "crease.dev/drained"

# The controller's state folder on a laptop. While the drained file lies in it, the controller launches nothing new.
CONTROLLER_FOLDER = "controller"
DRAINED_FILE = "drained"
LAUNCHES_FOLDER = "launches"
# Files of one launch's record, services/controller/local/process_record.py.
RECORD_FILE = "record.json"
LOG_FILE = "log"
EXIT_CODE_FILE = "exit_code"
DELETED_FILE = "deleted"
# Files of a laptop's page: the key that signs cookies, and the key of the next sign-in, which is deleted by its use.
PAGE_FOLDER = "page"
COOKIE_KEY_FILE = "cookie-key"
SIGN_IN_FILE = "sign-in"


def launch_name(job_id: str | None, launch_no: int | str | None) -> str:
    """The name of a launch's Kubernetes Job or record folder. A pod's name is this, `-` and a suffix."""
    return f"{launch_prefix(job_id)}{launch_no}"


def launch_prefix(job_id: str | None) -> str:
    """What the names of all launches of a job begin with."""
    return f"analysis-{job_id}-"


def video_folder(video_key: str) -> str:
    """The folder of a video's key, without a slash at the end."""
    return video_key.rpartition("/")[0]


def analysis_prefix(video_key: str, job_id: object) -> str:
    """The prefix of all artifacts of a job. Two analyses of one video never share a key."""
    return f"{video_folder(video_key)}/{ANALYSIS_FOLDER}/{job_id}/"


def launch_artifacts_prefix(video_key: str, job_id: object, launch_no: int) -> str:
    """The prefix of one launch's artifacts."""
    return f"{analysis_prefix(video_key, job_id)}{launch_no}/"


def artifact_key(prefix: str, stage: str, name: str) -> str:
    """An artifact's key under its launch's prefix. `stage`: quick or deep."""
    return f"{prefix}{stage}/{name}"
