"""The process of one launch: it hands its token to the stand-in analyzers, and ends with the exit code they send.

It imports next to nothing, because thousands of them start: `python -I -S process.py SOCKET --job-id JOB --launch N`.
"""

import json
import os
import socket
import sys


def main() -> int:
    path, _, job_id, _, launch_no = sys.argv[1:]
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        with open(os.environ["CREASE_TOKEN_FILE"]) as file:
            asked = {"job_id": job_id, "launch_no": int(launch_no), "token": file.read(), "pid": os.getpid()}
        connection.sendall(json.dumps(asked).encode() + b"\n")
        return int(connection.recv(16) or b"70")


if __name__ == "__main__":
    sys.exit(main())
