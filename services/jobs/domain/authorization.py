"""Who may call what: one table of RPC and kinds of caller; which rows a person may see is `sees` below.

person      a user of any role; ownership decides further
upload      the program that holds S3
controller  the program that holds a cluster
pod         an analyzer's pod, by its token
lease       an analyzer's pod, by the lease it was given
"""

import sqlalchemy as sa

from services import errors, naming
from services.auth import Person
from services.authorization import Table
from services.jobs.store.schema import sessions

UPLOADERS = frozenset({naming.COACH_PRO_PLUS, naming.ORG_PRO, naming.SUPERUSER})
UPLOAD_FEATURE = naming.UPLOAD_FEATURE

TABLE: Table = {
    "/crease.jobs.v1.SessionService/CreateSession": frozenset({"person"}),
    "/crease.jobs.v1.SessionService/GetSession": frozenset({"person"}),
    "/crease.jobs.v1.SessionService/ListSessions": frozenset({"person"}),
    "/crease.jobs.v1.SessionService/UpdateSession": frozenset({"person"}),
    "/crease.jobs.v1.SessionService/DeleteSession": frozenset({"person"}),
    "/crease.jobs.v1.JobService/GetJob": frozenset({"person"}),
    "/crease.jobs.v1.JobService/ListJobs": frozenset({"person"}),
    "/crease.jobs.v1.JobService/WatchJob": frozenset({"person"}),
    "/crease.jobs.v1.JobService/CancelJob": frozenset({"person"}),
    "/crease.jobs.v1.JobService/ExplainJob": frozenset({"person"}),
    "/crease.jobs.v1.JobService/RetryJob": frozenset({"person"}),
    "/crease.jobs.v1.JobService/ReanalyzeJob": frozenset({"person"}),
    "/crease.jobs.v1.JobService/DeleteJob": frozenset({"person"}),
    "/crease.jobs.v1.JobService/CompareJobs": frozenset({"person"}),
    "/crease.jobs.v1.IntakeService/CreateJob": frozenset({"upload"}),
    "/crease.jobs.v1.IntakeService/ConfirmUpload": frozenset({"upload"}),
    "/crease.jobs.v1.IntakeService/FailUpload": frozenset({"upload"}),
    "/crease.jobs.v1.IntakeService/RecordMultipart": frozenset({"upload"}),
    "/crease.jobs.v1.IntakeService/AbandonUpload": frozenset({"upload"}),
    "/crease.jobs.v1.IntakeService/AuthorizeLaunch": frozenset({"upload"}),
    "/crease.jobs.v1.SweepService/TakeRubbish": frozenset({"upload"}),
    "/crease.jobs.v1.SweepService/SettleRubbish": frozenset({"upload"}),
    "/crease.jobs.v1.SweepService/ListVideos": frozenset({"upload"}),
    "/crease.analysis.v1.LaunchService/OpenLaunches": frozenset({"controller"}),
    "/crease.analysis.v1.LaunchService/ListLaunches": frozenset({"controller"}),
    "/crease.analysis.v1.LaunchService/ConfirmLaunch": frozenset({"controller"}),
    "/crease.analysis.v1.LaunchService/EndLaunch": frozenset({"controller"}),
    "/crease.analysis.v1.LaunchService/StartLaunch": frozenset({"pod"}),
    "/crease.analysis.v1.LaunchService/Heartbeat": frozenset({"lease"}),
    "/crease.analysis.v1.LaunchService/SubmitResult": frozenset({"lease"}),
    "/crease.analysis.v1.LaunchService/FailLaunch": frozenset({"lease"}),
    "/crease.events.v1.EventService/WatchEvents": frozenset({"controller"}),
}


def sees(person: Person) -> sa.ColumnElement[bool]:
    """Which sessions a person may see: their own, for `org_pro` their organisation's too, for `superuser` all.

    A deleted one nobody.
    """
    return sessions.c.deleted_at.is_(None) & _owns(person)


def _owns(person: Person) -> sa.ColumnElement[bool]:
    own = (sessions.c.owner_type == "coach") & (sessions.c.owner_id == person.subject)
    if person.role == "superuser":
        return sa.true()
    if person.role == "org_pro" and person.organisation_id:
        return own | (sessions.c.owner_type == "org") & (sessions.c.owner_id == person.organisation_id)
    return own


def may_see(person: Person, owner_type: str, owner_id: str) -> bool:
    """`sees`, for one row in hand."""
    if person.role == "superuser":
        return True
    if owner_type == "org":
        return person.role == "org_pro" and person.organisation_id == owner_id != ""
    return owner_id == person.subject


def check_uploader(person: Person) -> None:
    """Raises PermissionDenied for a role or a set of features that may not upload."""
    if person.role not in UPLOADERS:
        raise errors.PermissionDenied("Only Coach Pro Plus users can upload videos", reason="ROLE_NOT_ALLOWED")
    if UPLOAD_FEATURE not in person.features:
        raise errors.PermissionDenied(f"Insufficient feature access: {UPLOAD_FEATURE}", reason="FEATURE_NOT_ENABLED")


def check_superuser(person: Person) -> None:
    """Raises PermissionDenied for everybody else."""
    if person.role != "superuser":
        raise errors.PermissionDenied("Only superusers may ask this", reason="ROLE_NOT_ALLOWED")
