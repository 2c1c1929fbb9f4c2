"""The ErrorInfo reasons of Crease, and what a caller does about each. docs/clients.md is written from this table.

CompleteUpload has further reasons: the failure code of a video that it rejects, such as VIDEO_MISSING.
"""

from collections.abc import Mapping
from enum import StrEnum


class Reason(StrEnum):
    """What a program reads of an error; the message is for people."""

    # the request
    INVALID_FIELD = "INVALID_FIELD"
    REQUEST_ID_REUSED = "REQUEST_ID_REUSED"
    ETAG_MISMATCH = "ETAG_MISMATCH"
    # the caller
    UNAUTHENTICATED = "UNAUTHENTICATED"
    CALLER_NOT_ALLOWED = "CALLER_NOT_ALLOWED"
    ROLE_NOT_ALLOWED = "ROLE_NOT_ALLOWED"
    FEATURE_NOT_ENABLED = "FEATURE_NOT_ENABLED"
    OWNER_NOT_ALLOWED = "OWNER_NOT_ALLOWED"
    SESSION_ACCESS_DENIED = "SESSION_ACCESS_DENIED"
    JOB_ACCESS_DENIED = "JOB_ACCESS_DENIED"
    PLAYER_ACCESS_DENIED = "PLAYER_ACCESS_DENIED"
    SHARE_ACCESS_DENIED = "SHARE_ACCESS_DENIED"
    TOO_MANY_CALLS = "TOO_MANY_CALLS"
    TOO_MANY_SUBSCRIPTIONS = "TOO_MANY_SUBSCRIPTIONS"
    SLOW_READER = "SLOW_READER"
    # what does not exist
    SESSION_NOT_FOUND = "SESSION_NOT_FOUND"
    JOB_NOT_FOUND = "JOB_NOT_FOUND"
    PLAYER_NOT_FOUND = "PLAYER_NOT_FOUND"
    SHARE_NOT_FOUND = "SHARE_NOT_FOUND"
    ARTIFACT_NOT_FOUND = "ARTIFACT_NOT_FOUND"
    CLUSTER_NOT_FOUND = "CLUSTER_NOT_FOUND"
    SUBSCRIPTION_NOT_FOUND = "SUBSCRIPTION_NOT_FOUND"
    EVENTS_PURGED = "EVENTS_PURGED"
    # what the state does not allow
    WRONG_STATE = "WRONG_STATE"
    SUBSCRIPTION_DIFFERS = "SUBSCRIPTION_DIFFERS"
    SESSION_DELETED = "SESSION_DELETED"
    SESSION_HAS_LIVE_JOBS = "SESSION_HAS_LIVE_JOBS"
    UPLOAD_NOT_VERIFIED = "UPLOAD_NOT_VERIFIED"
    UPLOAD_CLEARED = "UPLOAD_CLEARED"
    NOT_IN_PARTS = "NOT_IN_PARTS"
    JOB_NOT_DONE = "JOB_NOT_DONE"
    JOB_NOT_ANONYMOUS = "JOB_NOT_ANONYMOUS"
    CLUSTER_REPORTS = "CLUSTER_REPORTS"
    # what passes
    DATABASE_AWAY = "DATABASE_AWAY"
    JOBS_AWAY = "JOBS_AWAY"
    ISSUER_AWAY = "ISSUER_AWAY"
    S3_AWAY = "S3_AWAY"
    VIDEO_NOT_ASSEMBLED = "VIDEO_NOT_ASSEMBLED"
    # what an operator repairs
    SIGNING_FAILED = "SIGNING_FAILED"
    S3_REFUSED = "S3_REFUSED"
    NOT_DELETED = "NOT_DELETED"
    INTERNAL = "INTERNAL"


_AGAIN = "Call again after RetryInfo's delay; the client does it by itself."
_OPERATOR = "Tell the operator: the message names the cause."

ADVICE: Mapping[Reason, str] = {
    Reason.INVALID_FIELD: "Correct the field that BadRequest names. A quota that is used up names its field, too.",
    Reason.REQUEST_ID_REUSED: "Use a new request_id: this one belongs to a request with other content.",
    Reason.ETAG_MISMATCH: "Read the session or player again, apply the change to it, and send its new etag.",
    Reason.UNAUTHENTICATED: "Send a valid token. Open an interrupted stream again with a newer one.",
    Reason.CALLER_NOT_ALLOWED: "Use a token of a caller that docs/api.md lists for the RPC.",
    Reason.ROLE_NOT_ALLOWED: "Use a token whose role may do this; the message names the role.",
    Reason.FEATURE_NOT_ENABLED: "Use a token with the feature that the message names.",
    Reason.OWNER_NOT_ALLOWED: "Name an owner that the operator lists for the service.",
    Reason.SESSION_ACCESS_DENIED: "Use a token of the session's owner.",
    Reason.JOB_ACCESS_DENIED: "Use a token of the job's owner.",
    Reason.PLAYER_ACCESS_DENIED: "Use a token of the player's owner.",
    Reason.SHARE_ACCESS_DENIED: "Use a token of the share's owner.",
    Reason.TOO_MANY_CALLS: "Wait until one of your calls or streams ends; share one connection.",
    Reason.TOO_MANY_SUBSCRIPTIONS: "Delete a subscription that the service does not need.",
    Reason.SLOW_READER: "Read the stream within 30 s a message. Open it again from the last message read.",
    Reason.SESSION_NOT_FOUND: "The session does not exist or was deleted.",
    Reason.JOB_NOT_FOUND: "The job does not exist or was deleted.",
    Reason.PLAYER_NOT_FOUND: "The player does not exist or was deleted.",
    Reason.SHARE_NOT_FOUND: "The share expired, was revoked, or its job was deleted: ask for another one.",
    Reason.ARTIFACT_NOT_FOUND: "Take a name from Job.artifacts; wait until the stage that writes it is done.",
    Reason.CLUSTER_NOT_FOUND: "Use the name of a cluster whose controller has reported.",
    Reason.SUBSCRIPTION_NOT_FOUND: "Call WatchEvents with its name, which makes it.",
    Reason.EVENTS_PURGED: "Read with ListJobs what was missed. Delete a subscription. Then start from `after`, "
    "which ErrorInfo has in its metadata.",
    Reason.WRONG_STATE: "Read the job: its status does not allow this call, or an earlier call of yours did it.",
    Reason.SUBSCRIPTION_DIFFERS: "Use the filter of the subscription's first call, or another name.",
    Reason.SESSION_DELETED: "Create another session with a new request_id.",
    Reason.SESSION_HAS_LIVE_JOBS: "Cancel the session's jobs or wait for them, then delete it.",
    Reason.UPLOAD_NOT_VERIFIED: "Upload the video and call CompleteUpload first.",
    Reason.UPLOAD_CLEARED: "Start another upload with a new request_id: the video of this one was deleted.",
    Reason.NOT_IN_PARTS: "Send the video by the one URL of InitiateUpload.",
    Reason.JOB_NOT_DONE: "Wait until every compared or shared job is done.",
    Reason.JOB_NOT_ANONYMOUS: "Share an anonymous reanalysis of the job, or set with_names.",
    Reason.CLUSTER_REPORTS: "The cluster's controller reports: nothing is to be forgotten.",
    Reason.DATABASE_AWAY: _AGAIN,
    Reason.JOBS_AWAY: _AGAIN,
    Reason.ISSUER_AWAY: _AGAIN,
    Reason.S3_AWAY: _AGAIN,
    Reason.VIDEO_NOT_ASSEMBLED: "Call CompleteUpload again: S3 takes some minutes to join the parts of a long video.",
    Reason.SIGNING_FAILED: _OPERATOR,
    Reason.S3_REFUSED: _OPERATOR,
    Reason.NOT_DELETED: _OPERATOR,
    Reason.INTERNAL: "Report a fault of Crease with the time and the job's id.",
}
