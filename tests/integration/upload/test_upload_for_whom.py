"""Which caller gets a URL: the product of all RPCs of upload, all callers, and a coach's and an organisation's job."""

from typing import Any

import grpc
import pytest

from crease.jobs.v1 import session_pb2
from crease.upload.v1 import upload_pb2
from services import dev_issuer
from services.upload.s3.inventory import folder_of
from testing.servers.programs import lease
from tests.integration.upload.client import VIDEO, put
from tests.integration.upload.whole import Whole

WHOSE = {"a coach's": "coach", "an organisation's": "org_pro"}
# The service that may do everything for the owner, and for no other one.
SERVICES = {"coach": "service for the coach", "org_pro": "service of the organisation"}
UNAUTHENTICATED = {"anonymous", "expired"}
SIGNING = ("InitiateUpload", "SignParts", "ListParts", "SignDownload", "CompleteUpload", "SignLaunch")
# The deprecated stream, and the pages of OrphanService.
RPCS = (*SIGNING, "ListOrphans", "OrphanService")


def callers(whole: Whole) -> dict[str, Any]:
    def person(subject: str, role: str = "coach_pro_plus", organisation: str = "", **more: Any) -> Any:
        token = dev_issuer.person(whole.laptop.folder, subject, role=role, organisation_id=organisation, **more)
        return (("authorization", f"Bearer {token}"),)

    return {
        "anonymous": (),
        "expired": person("coach-1", seconds=-3600),
        "coach": person("coach-1"),
        "other coach": person("coach-2"),
        "org_pro": person("boss", "org_pro", "o-1"),
        "other org_pro": person("rival", "org_pro", "o-2"),
        "superuser": person("root", "superuser"),
        "service for the coach": whole.laptop.service(on_behalf_of="coach:coach-1"),
        "service of the organisation": whole.laptop.service("club"),
        "service that reads": whole.laptop.service("reader"),
        "service that hears": whole.laptop.service("listener"),
        "upload": whole.laptop.program("upload"),
        "controller": whole.laptop.program("controller"),
        "pod": whole.laptop.pod("analysis-x-1-aaaaa"),
        "lease": lease("invented"),
    }


def request(rpc: str, session_id: str, waiting: str, done: str) -> Any:
    part = upload_pb2.Part(part_number=1, sha256="ab" * 32)
    match rpc:
        case "InitiateUpload":
            return upload_pb2.InitiateUploadRequest(
                session_id=session_id, content_type="video/mp4", content_length=len(VIDEO)
            )
        case "SignParts":
            return upload_pb2.SignPartsRequest(job_id=waiting, parts=[part])
        case "SignDownload":
            return upload_pb2.SignDownloadRequest(job_id=done, name="report.html")
        case "CompleteUpload":
            return upload_pb2.CompleteUploadRequest(job_id=done)
        case "SignLaunch":
            return upload_pb2.SignLaunchRequest(job_id=done, launch_no=1)
        case "ListOrphans" | "OrphanService":
            return upload_pb2.ListOrphansRequest()
        case _:
            return getattr(upload_pb2, f"{rpc}Request")(job_id=waiting)


def outcome(whole: Whole, rpc: str, asked: Any, metadata: Any) -> tuple[str, str]:
    """The status code and the whole response."""
    try:
        method: Any = whole.listing.ListOrphans if rpc == "OrphanService" else getattr(whole.upload, rpc)
        reply = method(asked, metadata=metadata, timeout=30)
        return "OK", str(list(reply)) if rpc == "ListOrphans" else str(reply)
    except grpc.RpcError as error:
        return error.code().name, ""


def expected(rpc: str, owner: str, caller: str) -> str:
    if caller in UNAUTHENTICATED:
        return "UNAUTHENTICATED"
    if rpc in ("ListOrphans", "OrphanService"):
        return "OK" if caller == "superuser" else "PERMISSION_DENIED"
    # SignLaunch admits leases only, and an invented lease is invalid.
    allowed = rpc != "SignLaunch" and caller in (owner, "superuser", SERVICES[owner])
    allowed |= rpc == "SignDownload" and caller == "service that reads"
    return "OK" if allowed else "PERMISSION_DENIED"


@pytest.mark.parametrize("whose", ["a coach's", pytest.param("an organisation's", marks=pytest.mark.slow)])
def test_no_caller_gets_a_url_into_another_owners_prefix(whole: Whole, whose: str) -> None:
    """A refused call returns no part of a URL; an allowed one signs only under the owner's prefix."""
    owner, everybody = WHOSE[whose], callers(whole)
    mine = {"metadata": everybody[owner]}
    session_id = whole.road.sessions.CreateSession(session_pb2.CreateSessionRequest(title="Nets"), **mine).session_id
    jobs = []
    for body in (VIDEO, VIDEO.ljust(3000, b"\0")):
        asked = upload_pb2.InitiateUploadRequest(
            session_id=session_id, content_type="video/mp4", content_length=len(body)
        )
        jobs.append(whole.upload.InitiateUpload(asked, **mine))
    done, waiting = jobs
    assert put(done.presigned_url, VIDEO, done.required_headers) == 200
    whole.upload.CompleteUpload(upload_pb2.CompleteUploadRequest(job_id=done.job_id), **mine)
    whole.analysed()
    seen = {}
    for rpc in (*RPCS, "AbortUpload"):
        # Refused callers come first: an allowed call may end the job.
        for caller in sorted(everybody, key=lambda name: expected(rpc, owner, name) == "OK"):
            asked = request(rpc, session_id, waiting.job_id, done.job_id)
            code, answer = outcome(whole, rpc, asked, everybody[caller])
            seen[rpc, caller] = code
            if "X-Amz-Signature" in answer:
                assert folder_of(waiting.s3_key).rsplit("/", 2)[0] in answer
    assert seen == {
        (rpc, caller): expected(rpc, owner, caller) for rpc in (*RPCS, "AbortUpload") for caller in everybody
    }
