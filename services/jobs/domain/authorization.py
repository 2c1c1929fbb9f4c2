"""Access rights of jobs: a table of RPCs and callers, and one rule of ownership.

person         a person of any role; ownership decides further
service:RIGHT  an internal service with that right; the owners that it may reach decide further
upload         the program that holds S3
controller     the program that holds a cluster
pod            an analyzer's pod, by its token
lease          an analyzer's pod, by the lease it was given
"""

from crease_client.calls import ON_BEHALF_OF
from services import errors, naming
from services.auth import Service, User
from services.authorization import READERS, WRITERS, Table
from services.jobs.domain.records import Owner, OwnerType

UPLOADERS = frozenset({naming.COACH_PRO_PLUS, naming.ORG_PRO, naming.SUPERUSER})

TABLE: Table = {
    "/crease.jobs.v1.SessionService/CreateSession": WRITERS,
    "/crease.jobs.v1.SessionService/GetSession": READERS,
    "/crease.jobs.v1.SessionService/ListSessions": READERS,
    "/crease.jobs.v1.SessionService/UpdateSession": WRITERS,
    "/crease.jobs.v1.SessionService/DeleteSession": WRITERS,
    "/crease.jobs.v1.SessionService/UndeleteSession": WRITERS,
    "/crease.jobs.v1.PlayerService/CreatePlayer": WRITERS,
    "/crease.jobs.v1.PlayerService/GetPlayer": READERS,
    "/crease.jobs.v1.PlayerService/ListPlayers": READERS,
    "/crease.jobs.v1.PlayerService/UpdatePlayer": WRITERS,
    "/crease.jobs.v1.PlayerService/DeletePlayer": WRITERS,
    "/crease.jobs.v1.PlayerService/UndeletePlayer": WRITERS,
    "/crease.jobs.v1.LibraryService/SearchSessions": READERS,
    "/crease.jobs.v1.LibraryService/SearchJobs": READERS,
    "/crease.jobs.v1.LibraryService/GetTrends": READERS,
    "/crease.jobs.v1.ShareService/CreateShare": WRITERS,
    "/crease.jobs.v1.ShareService/ListShares": READERS,
    "/crease.jobs.v1.ShareService/RevokeShare": WRITERS,
    "/crease.jobs.v1.JobService/GetJob": READERS,
    "/crease.jobs.v1.JobService/ListJobs": READERS,
    "/crease.jobs.v1.JobService/WatchJob": READERS,
    "/crease.jobs.v1.JobService/CancelJob": WRITERS,
    "/crease.jobs.v1.JobService/ExplainJob": READERS,
    "/crease.jobs.v1.JobService/RetryJob": WRITERS,
    "/crease.jobs.v1.JobService/ReanalyzeJob": WRITERS,
    "/crease.jobs.v1.JobService/DeleteJob": WRITERS,
    "/crease.jobs.v1.JobService/UndeleteJob": WRITERS,
    "/crease.jobs.v1.JobService/CompareJobs": READERS,
    "/crease.jobs.v1.JobService/ForgetCluster": frozenset({"person"}),
    "/crease.jobs.v1.IntakeService/CreateJob": frozenset({"upload"}),
    "/crease.jobs.v1.IntakeService/ConfirmUpload": frozenset({"upload"}),
    "/crease.jobs.v1.IntakeService/FailUpload": frozenset({"upload"}),
    "/crease.jobs.v1.IntakeService/GetUpload": frozenset({"upload"}),
    "/crease.jobs.v1.IntakeService/RecordMultipart": frozenset({"upload"}),
    "/crease.jobs.v1.IntakeService/AbandonUpload": frozenset({"upload"}),
    "/crease.jobs.v1.IntakeService/AuthorizeLaunch": frozenset({"upload"}),
    "/crease.jobs.v1.IntakeService/AuthorizeShare": frozenset({"upload"}),
    "/crease.cleanup.v1.CleanupService/ClaimCleanup": frozenset({"upload"}),
    "/crease.cleanup.v1.CleanupService/CompleteCleanup": frozenset({"upload"}),
    "/crease.cleanup.v1.CleanupService/ListVideos": frozenset({"upload"}),
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
    "/crease.events.v1.EventService/WatchEvents": frozenset({"controller", "service:events"}),
    "/crease.events.v1.EventService/AcknowledgeEvents": frozenset({"service:events"}),
    "/crease.events.v1.EventService/DeleteSubscription": frozenset({"service:events"}),
}


def visible_owners(user: User) -> frozenset[Owner] | None:
    """The owners whose sessions and jobs a user may see and change; None is every owner.

    The only rule of ownership: `may_see` applies it to one owner, `pagination.visible_to` turns it into SQL.
    """
    if isinstance(user, Service):
        if user.on_behalf_of:
            return frozenset({parse_owner(user.on_behalf_of)})
        return None if user.owners is None else frozenset(map(parse_owner, user.owners))
    if user.role == naming.SUPERUSER:
        return None
    return frozenset({Owner(OwnerType.COACH, user.subject), owner_of_new_session(user)})


def parse_owner(name: str) -> Owner:
    """The owner of a name such as `coach:ID`."""
    kind, _, key = name.partition(":")
    return Owner(OwnerType(kind), key)


def may_see(user: User, owner: Owner) -> bool:
    """Whether a user may see what an owner has."""
    owners = visible_owners(user)
    return owners is None or owner in owners


def owner_of_new_session(user: User) -> Owner:
    """The owner of what a user creates: for `org_pro` their organisation, for a service the one that it names.

    Raises InvalidArgument for a service that names none.
    """
    if isinstance(user, Service):
        if not user.on_behalf_of:
            raise errors.InvalidArgument(ON_BEHALF_OF, "must name the owner of what is created: coach:ID or org:ID")
        return parse_owner(user.on_behalf_of)
    if user.role == naming.ORG_PRO and user.organisation_id:
        return Owner(OwnerType.ORGANISATION, user.organisation_id)
    return Owner(OwnerType.COACH, user.subject)


def actor(user: User) -> str:
    """A user as rows keep them: a person's subject, or `service:NAME`, with the owner for whom it acts."""
    if isinstance(user, Service):
        return naming.SERVICE_ACTOR + user.name + (f" for {user.on_behalf_of}" if user.on_behalf_of else "")
    return user.subject


def check_writer(user: User) -> None:
    """Raises PermissionDenied for a service that may not write."""
    if isinstance(user, Service) and "write" not in user.may:
        raise errors.PermissionDenied(f"The service {user.name} may not write", reason="CALLER_NOT_ALLOWED")


def check_uploader(user: User) -> None:
    """Raises PermissionDenied unless a person's role and features allow uploads, or a service may write."""
    if isinstance(user, Service):
        check_writer(user)
        return
    if user.role not in UPLOADERS:
        raise errors.PermissionDenied("Only Coach Pro Plus users can upload videos", reason="ROLE_NOT_ALLOWED")
    if naming.UPLOAD_FEATURE not in user.features:
        message = f"Insufficient feature access: {naming.UPLOAD_FEATURE}"
        raise errors.PermissionDenied(message, reason="FEATURE_NOT_ENABLED")


def check_superuser(user: User) -> None:
    """Raises PermissionDenied for every other role, and for services."""
    if isinstance(user, Service) or user.role != naming.SUPERUSER:
        raise errors.PermissionDenied("Only superusers may call this", reason="ROLE_NOT_ALLOWED")
