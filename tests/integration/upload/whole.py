"""jobs and upload together, on a real PostgreSQL and a real S3 with a versioned bucket."""

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from crease.analysis.v1 import launch_pb2
from crease.jobs.v1 import job_pb2, session_pb2
from crease.upload.v1 import orphan_pb2_grpc, upload_pb2, upload_pb2_grpc
from services import dev_issuer
from testing.servers.programs import Laptop, lease
from testing.servers.s3 import Endpoint
from tests.integration.jobs.test_lifecycle import RESULTS, Road
from tests.integration.upload.client import VIDEO, put

WAIT_SECONDS = 60


@dataclass(frozen=True)
class Started:
    """A launch that runs, with its lease and its stored report."""

    launch: launch_pb2.Launch
    secret: str
    report: job_pb2.Artifact


@dataclass
class Whole:
    """The running jobs and upload, with the calls of a coach."""

    road: Road
    upload: upload_pb2_grpc.UploadServiceStub
    listing: orphan_pb2_grpc.OrphanServiceStub
    upload_endpoint: str
    s3: Endpoint
    bucket: str
    database_url: str
    laptop: Laptop

    def initiated(self, *, session_id: str = "", in_parts: bool = False) -> upload_pb2.InitiateUploadResponse:
        session_id = session_id or self.session()
        # conftest.py sets the bound for parts to 2,000 bytes.
        body = VIDEO.ljust(3000, b"\0") if in_parts else VIDEO
        request = upload_pb2.InitiateUploadRequest(
            session_id=session_id, content_type="video/mp4", content_length=len(body)
        )
        return self.upload.InitiateUpload(request, metadata=self.road.coach)

    def session(self) -> str:
        request = session_pb2.CreateSessionRequest(title="Nets")
        return self.road.sessions.CreateSession(request, metadata=self.road.coach).session_id

    def sent(self, begun: upload_pb2.InitiateUploadResponse) -> None:
        if not begun.parts.part_count:
            assert put(begun.presigned_url, VIDEO, begun.required_headers) == 200
            return
        body = VIDEO.ljust(3000, b"\0")
        part = upload_pb2.Part(part_number=1, sha256=hashlib.sha256(body).hexdigest())
        request = upload_pb2.SignPartsRequest(job_id=begun.job_id, parts=[part])
        [signed] = self.upload.SignParts(request, metadata=self.road.coach).puts
        assert put(signed.url, body, signed.headers) == 200

    def completed(self, **how: Any) -> str:
        begun = self.initiated(**how)
        self.sent(begun)
        self.upload.CompleteUpload(
            upload_pb2.CompleteUploadRequest(job_id=begun.job_id), metadata=self.road.coach, timeout=30
        )
        return begun.job_id

    def analysed(self) -> None:
        """Analyses every queued job; each gets a report."""
        for started in self.launched():
            self.submit(started)

    def launched(self) -> list[Started]:
        """Launches every queued job; each has stored its report, and not submitted it."""
        return [self._store(launch) for launch in self.road.open(50)]

    def _store(self, launch: launch_pb2.Launch) -> Started:
        self.road.confirm(launch)
        secret = self.road.start(launch).lease
        report = job_pb2.Artifact(
            name="report.html", stage=job_pb2.STAGE_QUICK, content_type="text/html", content_length=6
        )
        named: dict[str, Any] = {"job_id": launch.job_id, "launch_no": launch.launch_no, "artifacts": [report]}
        signed = self.upload.SignLaunch(upload_pb2.SignLaunchRequest(**named), metadata=lease(secret))
        assert put(signed.artifacts[0].url, b"report", signed.artifacts[0].headers) == 200
        return Started(launch, secret, report)

    def submit(self, started: Started) -> None:
        result = launch_pb2.SubmitResultRequest(
            job_id=started.launch.job_id,
            launch_no=started.launch.launch_no,
            stage=job_pb2.STAGE_QUICK,
            results=RESULTS,
            artifacts=[started.report],
        )
        self.road.launches.SubmitResult(result, metadata=lease(started.secret))

    def again(self, job_id: str) -> str:
        return self.road.jobs.ReanalyzeJob(job_pb2.ReanalyzeJobRequest(job_id=job_id), metadata=self.road.coach).job_id

    def cancel(self, job_id: str) -> None:
        self.road.jobs.CancelJob(job_pb2.CancelJobRequest(job_id=job_id), metadata=self.road.coach)

    def delete(self, job_id: str) -> None:
        self.road.jobs.DeleteJob(job_pb2.DeleteJobRequest(job_id=job_id), metadata=self.road.coach)

    def abort(self, job_id: str) -> None:
        self.upload.AbortUpload(upload_pb2.AbortUploadRequest(job_id=job_id), metadata=self.road.coach)

    def delete_session(self, session_id: str) -> None:
        request = session_pb2.DeleteSessionRequest(session_id=session_id)
        self.road.sessions.DeleteSession(request, metadata=self.road.coach)

    def key(self, job_id: str) -> str:
        return str(self.rows("SELECT s3_key FROM video_analysis_jobs WHERE id = %s", job_id)[0][0])

    def rows(self, statement: str, *values: Any) -> list[Any]:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            cursor = connection.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def swept(self) -> None:
        """Waits until no cleanup is due."""
        give_up = time.monotonic() + WAIT_SECONDS
        # A claimed cleanup is due again within five minutes; a completed one that is repeated, much later.
        due = "SELECT count(*) FROM video_analysis_jobs WHERE sweep_at < now() + interval '10 minutes'"
        while self.rows(due)[0][0]:
            assert time.monotonic() < give_up, "a cleanup is still due"
            time.sleep(0.1)

    def stored(self) -> set[str]:
        pages = self.s3.client().get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return {found["Key"] for page in pages for found in page.get("Contents", [])}

    def unfinished(self) -> set[str]:
        listed = self.s3.client().list_multipart_uploads(Bucket=self.bucket)
        return {found["Key"] for found in listed.get("Uploads", [])}

    def orphans(self, role: str = "superuser") -> set[tuple[str, str]]:
        """Those of all pages, of one orphan each."""
        caller: Any = {"metadata": self.laptop.person("root", role=role), "timeout": 60}
        request, listed = upload_pb2.ListOrphansRequest(page_size=1), list[upload_pb2.Orphan]()
        while True:
            page = self.listing.ListOrphans(request, **caller)
            assert len(page.orphans) <= 1
            listed += page.orphans
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        return {(upload_pb2.Orphan.Kind.Name(one.kind), one.s3_key) for one in listed}

    def admin_token(self) -> Path:
        path = self.laptop.folder / "admin.jwt"
        path.write_text(dev_issuer.person(self.laptop.folder, "root", role="superuser"))
        return path
