"""Reading a share, through a real upload, a real jobs, PostgreSQL and S3."""

import grpc
import pytest

from crease.jobs.v1 import job_pb2, share_pb2
from crease.upload.v1 import share_pb2 as shared_pb2
from crease.upload.v1 import share_pb2_grpc as shared_pb2_grpc
from tests.integration.jobs.test_lifecycle import code_of
from tests.integration.upload.client import get
from tests.integration.upload.whole import Whole


def read(whole: Whole, secret: str) -> shared_pb2.ReadShareResponse:
    """As a reader without an account: the secret is all that it has."""
    with grpc.insecure_channel(whole.upload_endpoint) as channel:
        stub = shared_pb2_grpc.SharedReportServiceStub(channel)
        metadata = (("authorization", f"Share {secret}"),)
        return stub.ReadShare(shared_pb2.ReadShareRequest(), metadata=metadata, timeout=30)


def test_a_reader_without_an_account_gets_the_shared_report_alone(whole: Whole) -> None:
    """By presigned GETs, until the coach revokes the share. The secret opens no other call."""
    job_id = whole.completed()
    whole.analysed()
    request = share_pb2.CreateShareRequest(job_ids=[job_id], with_names=True)
    made = whole.road.shares.CreateShare(request, metadata=whole.road.coach)
    shared = read(whole, made.secret)
    assert shared.expires_at == made.share.expires_at
    [report] = shared.reports
    assert (report.job_id, report.title) == (job_id, "Nets")
    assert report.results == whole.road.job(job_id).results
    [file] = report.files
    assert (file.name, get(file.get).data) == ("report.html", b"report")
    assert 0 < shared.expires_in.seconds <= 3600
    metadata = (("authorization", f"Share {made.secret}"),)
    with pytest.raises(grpc.RpcError) as other:
        whole.road.jobs.GetJob(job_pb2.GetJobRequest(job_id=job_id), metadata=metadata)
    assert code_of(other)[0] == "PERMISSION_DENIED"
    revoke = share_pb2.RevokeShareRequest(share_id=made.share.share_id)
    whole.road.shares.RevokeShare(revoke, metadata=whole.road.coach)
    for secret in (made.secret, "x"):
        with pytest.raises(grpc.RpcError) as ended:
            read(whole, secret)
        assert code_of(ended) == ("NOT_FOUND", "SHARE_NOT_FOUND")
