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
    """The most memory that a program has ever held, by the kernel; getrusage counts its parent's before exec too."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) // 1024  # type: ignore[index]


def main(endpoint: str, token_file: str, video: str, session_id: str) -> None:
    path = Path(video)
    asked = upload_pb2.InitiateUploadRequest(
        session_id=session_id,
        content_type="video/mp4",
        content_length=path.stat().st_size,
        request_id=str(uuid.uuid4()),
    )
    with grpc.insecure_channel(endpoint) as channel:
        services = Services(None, None, upload_pb2_grpc.UploadServiceStub(channel), Path(token_file))  # type: ignore[arg-type]
        done = upload.send(services, path, asked)
    print(done.job_id, done.message, peak_mib(os.getpid()), sep="\t")  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
