"""Access rights of jobs: a table of RPCs and callers, and one rule of ownership.

person      a user of any role; ownership decides further
upload      the program that holds S3
controller  the program that holds a cluster
pod         an analyzer's pod, by its token
lease       an analyzer's pod, by the lease it was given
"""

from services import errors, naming
from services.auth import Person
from services.authorization import Table
from services.jobs.domain.records import Owner, OwnerType

UPLOADERS = frozenset({naming.COACH_PRO_PLUS, naming.ORG_PRO, naming.SUPERUSER})

TABLE: Table = {
    "/crease.jobs.v1.SessionService/CreateSession": frozenset({"person"}),
    "/crease.jobs.v1.SessionService/GetSession": frozenset({"person"}),
    "/crease.jobs.v1.SessionService/ListSessions": frozenset({"person"}),
    "/crease.jobs.v1.SessionService/UpdateSession": frozenset({"person"}),
    "/crease.jobs.v1.SessionService/DeleteSession": frozenset({"person"}),
    "/crease.jobs.v1.SessionService/UndeleteSession": frozenset({"person"}),
    "/crease.jobs.v1.PlayerService/CreatePlayer": frozenset({"person"}),
    "/crease.jobs.v1.PlayerService/GetPlayer": frozenset({"person"}),
    "/crease.jobs.v1.PlayerService/ListPlayers": frozenset({"person"}),
    "/crease.jobs.v1.PlayerService/UpdatePlayer": frozenset({"person"}),
    "/crease.jobs.v1.PlayerService/DeletePlayer": frozenset({"person"}),
    "/crease.jobs.v1.LibraryService/SearchSessions": frozenset({"person"}),
    "/crease.jobs.v1.LibraryService/SearchJobs": frozenset({"person"}),
    "/crease.jobs.v1.LibraryService/GetTrends": frozenset({"person"}),
    "/crease.jobs.v1.ShareService/CreateShare": frozenset({"person"}),
    "/crease.jobs.v1.ShareService/ListShares": frozenset({"person"}),
    "/crease.jobs.v1.ShareService/RevokeShare": frozenset({"person"}),
    "/crease.jobs.v1.ShareService/AuthorizeShare": frozenset({"upload"}),
    "/crease.jobs.v1.JobService/GetJob": frozenset({"person"}),
    "/crease.jobs.v1.JobService/ListJobs": frozenset({"person"}),
    "/crease.jobs.v1.JobService/WatchJob": frozenset({"person"}),
    "/crease.jobs.v1.JobService/CancelJob": frozenset({"person"}),
    "/crease.jobs.v1.JobService/ExplainJob": frozenset({"person"}),
    "/crease.jobs.v1.JobService/RetryJob": frozenset({"person"}),
    "/crease.jobs.v1.JobService/ReanalyzeJob": frozenset({"person"}),
    "/crease.jobs.v1.JobService/DeleteJob": frozenset({"person"}),
    "/crease.jobs.v1.JobService/UndeleteJob": frozenset({"person"}),
    "/crease.jobs.v1.JobService/CompareJobs": frozenset({"person"}),
    "/crease.jobs.v1.JobService/ForgetCluster": frozenset({"person"}),
    "/crease.jobs.v1.IntakeService/CreateJob": frozenset({"upload"}),
    "/crease.jobs.v1.IntakeService/ConfirmUpload": frozenset({"upload"}),
    "/crease.jobs.v1.IntakeService/FailUpload": frozenset({"upload"}),
    "/crease.jobs.v1.IntakeService/RecordMultipart": frozenset({"upload"}),
    "/crease.jobs.v1.IntakeService/AbandonUpload": frozenset({"upload"}),
    "/crease.jobs.v1.IntakeService/AuthorizeLaunch": frozenset({"upload"}),
    "/crease.jobs.v1.SweepService/ClaimCleanup": frozenset({"upload"}),
    "/crease.jobs.v1.SweepService/CompleteCleanup": frozenset({"upload"}),
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


def visible_owners(person: Person) -> frozenset[Owner] | None:
    """The owners whose sessions and jobs a person may see and change; None is every owner.

    The only rule of ownership: `may_see` applies it to one owner, `pagination.visible_to` turns it into SQL.
    """
    if person.role == naming.SUPERUSER:
        return None
    return frozenset({Owner(OwnerType.COACH, person.subject), owner_of_new_session(person)})


def may_see(person: Person, owner: Owner) -> bool:
    """Whether a person may see what an owner has."""
    owners = visible_owners(person)
    return owners is None or owner in owners


def owner_of_new_session(person: Person) -> Owner:
    """The owner of a session or player that a person creates: for `org_pro` their organisation."""
    if person.role == naming.ORG_PRO and person.organisation_id:
        return Owner(OwnerType.ORGANISATION, person.organisation_id)
    return Owner(OwnerType.COACH, person.subject)


def check_uploader(person: Person) -> None:
    """Raises PermissionDenied unless the person's role and features allow uploads."""
    if person.role not in UPLOADERS:
        raise errors.PermissionDenied("Only Coach Pro Plus users can upload videos", reason="ROLE_NOT_ALLOWED")
    if naming.UPLOAD_FEATURE not in person.features:
        message = f"Insufficient feature access: {naming.UPLOAD_FEATURE}"
        raise errors.PermissionDenied(message, reason="FEATURE_NOT_ENABLED")


def check_superuser(person: Person) -> None:
    """Raises PermissionDenied for every other role."""
    if person.role != naming.SUPERUSER:
        raise errors.PermissionDenied("Only superusers may call this", reason="ROLE_NOT_ALLOWED")
