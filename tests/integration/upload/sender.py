"""`python -m tests.integration.upload.sender ENDPOINT TOKEN_FILE VIDEO SESSION`: sends; prints job and peak memory."""

import os
import re
import sys
import uuid
from pathlib import Path

import grpc

from crease.upload.v1 import upload_pb2, upload_pb2_grpc
from services.cli.api import upload
from services.cli.api.client import Services


def peak_mib(pid: int) -> int:
    """The peak memory of a process, by the kernel; getrusage also counts its parent's before exec."""
    status = Path(f"/proc/{pid}/status").read_text()
    [kilobytes] = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return int(kilobytes) // 1024


def main(endpoint: str, token_file: str, video: str, session_id: str) -> None:
    path = Path(video)
    asked = upload_pb2.InitiateUploadRequest(
        session_id=session_id,
        content_type="video/mp4",
        content_length=path.stat().st_size,
        request_id=str(uuid.uuid4()),
    )
    with grpc.insecure_channel(endpoint) as channel:
        stub = upload_pb2_grpc.UploadServiceStub(channel)
        services = Services(None, None, stub, Path(token_file))  # type: ignore[arg-type]  # upload only
        done = upload.send(services, path, asked)
    print(done.job_id, done.message, peak_mib(os.getpid()), sep="\t")  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
