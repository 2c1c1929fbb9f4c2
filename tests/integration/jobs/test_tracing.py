"""Only our own programs can have a call traced, by passing on a trace."""

import signal
from pathlib import Path

import grpc
import pytest

from crease.analysis.v1 import launch_pb2
from crease.jobs.v1 import job_pb2
from testing.servers.otlp import collecting
from testing.servers.programs import Laptop, Program, lease, running
from tests.integration.jobs.test_lifecycle import Road

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = (("traceparent", f"00-{TRACE}-b7ad6b7169203331-01"),)


def beat(road: Road, launch: launch_pb2.Launch, secret: str) -> None:
    request = launch_pb2.HeartbeatRequest(
        job_id=launch.job_id, launch_no=launch.launch_no, stage=job_pb2.STAGE_QUICK, progress=0.5
    )
    road.launches.Heartbeat(request, metadata=lease(secret) + TRACEPARENT)


@pytest.mark.slow
def test_a_trace_continues_only_from_an_authenticated_program_of_ours(
    jobs_env: dict[str, str], laptop: Laptop, tmp_path: Path
) -> None:
    """A coach's trace and a made-up lease are sampled like any call: here never."""
    with collecting() as collector:
        traced = {"CREASE_OTLP_ENDPOINT": collector.endpoint, "CREASE_TRACE_SHARE": "0"}
        with running(Program("jobs", {**jobs_env, **traced}, tmp_path / "log")) as program:
            road = Road(program.endpoint, laptop)
            road.coach += TRACEPARENT
            road.queued()
            road.controller += TRACEPARENT
            [launch] = road.open()
            road.controller = road.controller[:1]
            road.confirm(launch)
            secret = road.start(launch).lease
            with pytest.raises(grpc.RpcError):
                beat(road, launch, "made up")
            beat(road, launch, secret)
            program.stop(signal.SIGTERM)
        spans = collector.spans
    assert {span.trace for span in spans} == {TRACE}
    assert sorted(span.name for span in spans) == ["LaunchService/Heartbeat", "LaunchService/OpenLaunches"]
