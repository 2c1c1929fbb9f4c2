"""A stand-in for the analyzer that speaks the real protocol: `… FOLDER --job-id JOB --launch N`.

FOLDER/mode sets its behaviour: `work` publishes both results at once; `hold` sends heartbeats until the mode changes;
`no model` runs the real analyzer with the path of a missing model.
"""

import os
import sys
import time
from pathlib import Path

from google.protobuf import json_format, struct_pb2

from crease.analysis.v1.launch_pb2 import HeartbeatRequest, StartLaunchRequest, SubmitResultRequest
from crease.analysis.v1.launch_pb2_grpc import LaunchServiceStub
from crease.jobs.v1.job_pb2 import STAGE_DEEP, STAGE_QUICK
from services.clients import open_channel

RESULTS = {
    "pose": {
        "pose_summary": {
            "duration_seconds": 3.5,
            "run": {"accelerator": "cpu", "cpu_seconds": {"pose": 2.0, "rest": 1.0}},
        }
    },
    "metrics": {},
    "findings": {},
    "report": {},
}


def main() -> None:
    folder, arguments = Path(sys.argv[1]), sys.argv[2:]
    if _mode(folder) == "no model":
        environment = os.environ | {"MEDIAPIPE_POSE_MODEL_PATH": str(folder / "no-such-model.task")}
        os.execve(sys.executable, [sys.executable, "-m", "services.analyzer", *arguments], environment)  # noqa: S606
    job_id, launch_no = arguments[1], int(arguments[3])
    with open_channel(os.environ["CREASE_JOBS_ENDPOINT"]) as channel:
        launches = LaunchServiceStub(channel)
        token = Path(os.environ["CREASE_TOKEN_FILE"]).read_text()
        asked = StartLaunchRequest(job_id=job_id, launch_no=launch_no)
        started = launches.StartLaunch(asked, metadata=(("authorization", f"Bearer {token}"),))
        lease = (("authorization", f"Lease {started.lease}"),)
        while _mode(folder) == "hold":
            beat = HeartbeatRequest(job_id=job_id, launch_no=launch_no, stage=started.stage, progress=0.5)
            launches.Heartbeat(beat, metadata=lease)
            time.sleep(0.2)
        results = json_format.ParseDict(RESULTS, struct_pb2.Struct())
        for stage in (STAGE_QUICK, STAGE_DEEP):
            if stage >= started.stage:
                done = SubmitResultRequest(job_id=job_id, launch_no=launch_no, stage=stage, results=results)
                launches.SubmitResult(done, metadata=lease)


def _mode(folder: Path) -> str:
    return (folder / "mode").read_text()


if __name__ == "__main__":
    main()
