"""The relay to SQS: real relays, a real PostgreSQL, a real SQS server."""

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from google.protobuf import json_format

from crease.events.v1 import event_pb2
from crease.jobs.v1 import job_pb2
from services.jobs.settings import RelaySettings
from testing.metrics import labels_of, listening, scrape
from testing.servers.programs import ROOT, Laptop, Program, free_port
from testing.servers.s3 import Endpoint
from tests.integration.jobs.test_lifecycle import Road
from tests.integration.jobs.test_outbox import sql, wait_until, watch


@pytest.fixture
def road(shared_jobs: Program, laptop: Laptop, empty: str) -> Road:
    return Road(shared_jobs.endpoint, laptop)


@dataclass
class Sqs:
    """A queue of its own, read as an operator's consumer reads it."""

    client: Any
    url: str

    def receive(self, count: int) -> list[dict[str, Any]]:
        """The next `count` messages; fails if more are waiting."""
        messages: list[dict[str, Any]] = []
        while len(messages) < count:
            reply = self._receive(WaitTimeSeconds=5)
            messages += reply
        assert self._receive() == []
        return messages

    def _receive(self, **options: Any) -> list[dict[str, Any]]:
        reply = self.client.receive_message(
            QueueUrl=self.url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], **options
        )
        found: list[dict[str, Any]] = reply.get("Messages", [])
        for message in found:
            self.client.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
        return found


@pytest.fixture
def sqs(s3_server: Endpoint) -> Sqs:
    client = boto3.client(
        "sqs",
        endpoint_url=s3_server.url,
        region_name=s3_server.region,
        aws_access_key_id=s3_server.access_key,
        aws_secret_access_key=s3_server.secret_key,
    )
    return Sqs(client, client.create_queue(QueueName=f"q-{uuid.uuid4().hex}")["QueueUrl"])


@pytest.fixture
def env(empty: str, s3_server: Endpoint, sqs: Sqs) -> Iterator[dict[str, str]]:
    """The settings of a relay; its position is deleted after the test."""
    aws = {name: value for name, value in s3_server.env.items() if name.startswith("AWS_")}
    yield aws | {
        "CREASE_DATABASE_URL": empty,
        "SQS_VIDEO_ANALYSIS_QUEUE_URL": sqs.url,
        "CREASE_SQS_ENDPOINT": s3_server.url,
        "CREASE_POLL_SECONDS": "0.05",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    sql(empty, "DELETE FROM event_positions WHERE name IN ('sqs', 'sqs-events')")


@dataclass
class Relay:
    process: "subprocess.Popen[bytes]"
    log: Path

    def has_logged(self, event: str) -> bool:
        return f'"event": "{event}"' in self.log.read_text()


@contextmanager
def relay(env: dict[str, str], log: Path) -> Iterator[Relay]:
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.jobs", "relay"],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "HOME": str(log.parent)} | env,
            stdout=file,
            stderr=file,
        )
    try:
        yield Relay(process, log)
    finally:
        process.kill()
        process.wait()


def message_id(road: Road, job_id: str) -> str:
    return road.job(job_id).sqs_message_id


def test_a_queued_job_is_sent_with_its_envelope_and_its_message_id_is_kept(
    road: Road, empty: str, env: dict[str, str], sqs: Sqs, tmp_path: Path
) -> None:
    """Exact body and attributes; a job that was queued before the first relay is sent too."""
    job_id = road.queued(sample_fps=15, include_frames=True)
    [_, event] = [event for _, event in zip(range(2), watch(road), strict=False)]
    port = free_port()
    with relay(env | dict(listening(port)), tmp_path / "log"):
        [sent] = sqs.receive(1)
        wait_until(lambda: message_id(road, job_id))
        assert labels_of(scrape(port), "crease_sqs_messages_total", "outcome") == {"sent": 1}
    session_id = road.job(job_id).session_id
    expected = f'{{"job_id": "{job_id}", "session_id": "{session_id}", "sample_fps": 15, "include_frames": true}}'
    assert sent["Body"] == expected
    assert {name: value["StringValue"] for name, value in sent["MessageAttributes"].items()} == {
        "ce-id": event.id,
        "ce-source": "/crease/jobs",
        "ce-specversion": "1.0",
        "ce-type": "JobQueued",
        "ce-subject": job_id,
        "ce-time": event.time.ToJsonString(),
        "content-type": "application/json",
    }
    assert message_id(road, job_id) == sent["MessageId"]
    assert sql(empty, "SELECT to_status FROM events ORDER BY xid, id") == [("awaiting_upload",), ("queued",)]


def test_a_second_queue_gets_the_events_of_every_type(
    road: Road, empty: str, env: dict[str, str], sqs: Sqs, tmp_path: Path
) -> None:
    """Each with its transition and the same envelope. The first queue's message keeps its own body."""
    job_id = road.queued(sample_fps=15)
    road.jobs.CancelJob(job_pb2.CancelJobRequest(job_id=job_id), metadata=road.coach)
    events = [event for _, event in zip(range(3), watch(road), strict=False)]
    second = Sqs(sqs.client, sqs.client.create_queue(QueueName=f"q-{uuid.uuid4().hex}")["QueueUrl"])
    with relay(env | {"CREASE_EVENTS_QUEUE_URL": second.url}, tmp_path / "log"):
        sent = second.receive(3)
        [queued] = sqs.receive(1)
        wait_until(lambda: message_id(road, job_id) == queued["MessageId"])
    assert set(json.loads(queued["Body"])) == {"job_id", "session_id", "sample_fps", "include_frames"}
    by_id = {one["MessageAttributes"]["ce-id"]["StringValue"]: one for one in sent}
    assert by_id.keys() == {event.id for event in events}
    for event in events:
        message = by_id[event.id]
        assert message["MessageAttributes"]["ce-type"]["StringValue"] == event.type
        assert json_format.ParseDict(json.loads(message["Body"]), event_pb2.JobTransition()) == event.data
        assert len(json.loads(message["Body"])) == len(event_pb2.JobTransition.DESCRIPTOR.fields)


def test_a_second_queue_alone_needs_no_first_one(road: Road, env: dict[str, str], sqs: Sqs, tmp_path: Path) -> None:
    """Then no message of JobQueued is sent, and no job keeps an id of one."""
    job_id = road.queued()
    alone = {"SQS_VIDEO_ANALYSIS_QUEUE_URL": "", "CREASE_EVENTS_QUEUE_URL": sqs.url}
    with relay(env | alone, tmp_path / "log"):
        assert len(sqs.receive(2)) == 2
    assert message_id(road, job_id) == ""


@pytest.mark.slow
def test_of_two_relays_one_sends_and_the_other_takes_over_when_it_dies(
    road: Road, empty: str, env: dict[str, str], sqs: Sqs, tmp_path: Path
) -> None:
    """Whether it is stopped or killed, the other relay sends the jobs that follow, and none is lost."""
    with relay(env, tmp_path / "one") as one, relay(env, tmp_path / "two") as two:
        wait_until(lambda: one.has_logged("sqs_relay_active") or two.has_logged("sqs_relay_active"))
        before = [road.queued() for _ in range(12)]
        assert [json.loads(sent["Body"])["job_id"] for sent in sqs.receive(12)] == before
        wait_until(lambda: message_id(road, before[-1]))
        assert not (one.has_logged("sqs_relay_active") and two.has_logged("sqs_relay_active"))
        active, standby = (one, two) if one.has_logged("sqs_relay_active") else (two, one)
        active.process.send_signal(signal.SIGSTOP)
        meanwhile = road.queued()
        [sent] = sqs.receive(1)
        assert json.loads(sent["Body"])["job_id"] == meanwhile
        # A message whose position is not saved would be sent again.
        wait_until(lambda: message_id(road, meanwhile))
        assert standby.has_logged("sqs_relay_active")
        active.process.kill()
    with relay(env, tmp_path / "three"):
        after = road.queued()
        assert [json.loads(sent["Body"])["job_id"] for sent in sqs.receive(1)] == [after]


@pytest.mark.slow
def test_a_killed_relay_is_followed_by_the_other(road: Road, env: dict[str, str], sqs: Sqs, tmp_path: Path) -> None:
    """SIGKILL between two jobs."""
    with relay(env, tmp_path / "one") as one, relay(env, tmp_path / "two") as two:
        wait_until(lambda: one.has_logged("sqs_relay_active") or two.has_logged("sqs_relay_active"))
        active, standby = (one, two) if one.has_logged("sqs_relay_active") else (two, one)
        active.process.kill()
        job_id = road.queued()
        wait_until(lambda: standby.has_logged("sqs_relay_active"))
        assert [json.loads(sent["Body"])["job_id"] for sent in sqs.receive(1)] == [job_id]


def test_while_sqs_is_unavailable_jobs_continue_and_later_all_are_sent(
    road: Road, env: dict[str, str], sqs: Sqs, tmp_path: Path
) -> None:
    """The queue does not exist here; the relay retries until it does."""
    name = f"late-{uuid.uuid4().hex}"
    late = sqs.url.rpartition("/")[0] + "/" + name
    with relay(env | {"SQS_VIDEO_ANALYSIS_QUEUE_URL": late}, tmp_path / "log") as running:
        job_ids = [road.queued() for _ in range(3)]
        wait_until(lambda: running.has_logged("sqs_unavailable"))
        assert [road.status(job_id) for job_id in job_ids] == ["queued"] * 3
        queue = Sqs(sqs.client, sqs.client.create_queue(QueueName=name)["QueueUrl"])
        assert [json.loads(sent["Body"])["job_id"] for sent in queue.receive(3)] == job_ids


@pytest.mark.slow
def test_a_server_that_refuses_connections_is_retried(
    road: Road, env: dict[str, str], sqs: Sqs, tmp_path: Path
) -> None:
    """The position does not change, so the next relay sends the job."""
    job_id = road.queued()
    with relay(env | {"CREASE_SQS_ENDPOINT": "http://127.0.0.1:1"}, tmp_path / "one") as running:
        wait_until(lambda: running.has_logged("sqs_unavailable"))
        assert running.process.poll() is None
    with relay(env, tmp_path / "two"):
        assert [json.loads(sent["Body"])["job_id"] for sent in sqs.receive(1)] == [job_id]


def test_without_a_queue_the_relay_exits_with_0_and_logs_why(env: dict[str, str], tmp_path: Path) -> None:
    """An empty setting is valid."""
    with relay(env | {"SQS_VIDEO_ANALYSIS_QUEUE_URL": ""}, tmp_path / "log") as ended:
        assert ended.process.wait(30) == 0
        assert "SQS_VIDEO_ANALYSIS_QUEUE_URL and CREASE_EVENTS_QUEUE_URL are empty" in ended.log.read_text()


def test_a_queue_without_a_region_is_refused(
    env: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error names the missing setting."""
    for name, value in (env | {"AWS_REGION": ""}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as refused:
        RelaySettings.load()
    assert refused.value.code == 78
    assert capsys.readouterr().err.startswith("AWS_REGION: ")
