"""Two gigabytes through the multipart path, with `upload` killed twice on the way."""

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from services.upload.s3.parts import MIN_PART_BYTES, sha256_of
from testing.servers.programs import ROOT
from testing.servers.s3 import versitygw
from tests.integration.upload.client import VIDEO, Start
from tests.integration.upload.sender import peak_mib

LENGTH = 2_000_000_000
KILLED_AT = (60, 140)
UPLOAD_MOST_MIB, CLIENT_MOST_MIB = 150, 200


def arrived(s3: Any) -> int:
    """Parts of the one upload that is underway."""
    uploads = s3.list_multipart_uploads(Bucket="large").get("Uploads", [])
    if not uploads:
        return 0
    place = {"Bucket": "large", "Key": uploads[0]["Key"], "UploadId": uploads[0]["UploadId"]}
    return len(s3.list_parts(**place).get("Parts", []))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_gigabytes_arrive_whole_though_upload_is_killed_twice(start: Start, tmp_path: Path) -> None:
    """The client resumes by itself, S3 has the whole file, and neither side holds much of it in memory."""
    video, token = tmp_path / "long.mp4", tmp_path / "token"
    with video.open("wb") as file:
        file.write(VIDEO)
        file.truncate(LENGTH)
    with versitygw(tmp_path / "s3") as endpoint:
        endpoint.make_bucket("large")
        client = start(**endpoint.env, S3_COACH_VIDEOS_BUCKET="large")
        token.write_text(client.laptop.person("coach-1")[0][1].removeprefix("Bearer "))
        command = [sys.executable, "-m", "tests.integration.upload.sender", client.program.endpoint]
        command += [str(token), str(video), client.jobs.add_session()]
        sending = subprocess.Popen(command, cwd=ROOT, env=dict(os.environ), stdout=subprocess.PIPE, text=True)
        peaks, s3 = [], endpoint.client()
        try:
            for enough in KILLED_AT:
                while arrived(s3) < enough:
                    assert sending.poll() is None, "sent before it was to be killed"
                    time.sleep(0.05)
                peaks.append(peak_mib(client.program.pid))
                client.program.kill()
                client.program.start()
            out, _ = sending.communicate()
        finally:
            sending.kill()
        assert sending.returncode == 0
        job_id, message, client_peak = out.strip().split("\t")
        peaks.append(peak_mib(client.program.pid))
        assert message == "Video uploaded and queued for analysis"
        stored = client.jobs.jobs[job_id].video
        body, digests = s3.get_object(Bucket="large", Key=stored.s3_key)["Body"], []
        with video.open("rb") as file:
            while piece := file.read(MIN_PART_BYTES):
                digests.append(hashlib.sha256(piece).hexdigest())
                assert hashlib.sha256(body.read(len(piece))).hexdigest() == digests[-1]
        assert body.read() == b""
        assert stored.parts_sha256 == sha256_of(digests)
        assert max(peaks) < UPLOAD_MOST_MIB
        assert int(client_peak) < CLIENT_MOST_MIB
        print(f"upload {max(peaks)} MiB, client {client_peak} MiB at most")  # noqa: T201
