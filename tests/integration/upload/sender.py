"""`python -m tests.integration.upload.sender ENDPOINT TOKEN_FILE VIDEO SESSION`: sends; prints job and peak memory."""

import os
import re
import sys
from pathlib import Path

from crease.upload.v1 import upload_pb2
from crease_client import connect, token_file


def peak_mib(pid: int) -> int:
    """The peak memory of a process, by the kernel; getrusage also counts its parent's before exec."""
    status = Path(f"/proc/{pid}/status").read_text()
    [kilobytes] = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return int(kilobytes) // 1024


def main(endpoint: str, token: str, video: str, session_id: str) -> None:
    with connect(jobs="127.0.0.1:1", upload=endpoint, token=token_file(Path(token))) as client:
        done = client.upload(Path(video), upload_pb2.InitiateUploadRequest(session_id=session_id))
    print(done.job_id, done.message, peak_mib(os.getpid()), sep="\t")  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
