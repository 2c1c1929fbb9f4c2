"""The observability of one video: its trace, its log lines and its metrics, without its secrets."""

import json
import re
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

from crease.jobs.v1 import job_pb2
from testing.metrics import names, scrape, value
from testing.servers.otlp import Collector, Span, collecting
from testing.servers.postgres import Server
from testing.servers.product import PLAYERS, SAMPLE, Product, product, put
from testing.servers.programs import ROOT, Laptop
from testing.servers.s3 import Endpoint
from tests.integration.jobs.test_outbox import wait_until

pytestmark = pytest.mark.slow


@dataclass
class Watched:
    """One video with a report, one that failed, and the traces, logs and metrics of both."""

    product: Product
    collector: Collector
    job_id: str
    secrets: list[str]
    result: job_pb2.Job

    def lines(self) -> list[dict[str, Any]]:
        """Every line of every program's log."""
        logs = [self.product.folder / f"{name}.log" for name in ("jobs", "upload", "controller")]
        return [json.loads(line) for log in logs for line in log.read_text().splitlines() if line.startswith("{")]

    def span(self, program: str, name: str, **attributes: Any) -> Span:
        """The only span of that name in the video's trace."""
        [found] = [
            span
            for span in self.trace
            if (span.program, span.name) == (program, name) and attributes.items() <= span.attributes.items()
        ]
        return found

    @property
    def trace(self) -> list[Span]:
        """The spans of the trace of the call that created the job."""
        made = [span for span in self.collector.spans if span.name == "UploadService/InitiateUpload"]
        first = min(made, key=lambda span: span.began)
        return [span for span in self.collector.spans if span.trace == first.trace]


@pytest.fixture(scope="module")
def watched(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: Server, laptop: Laptop, s3_server: Endpoint
) -> Iterator[Watched]:
    env = laptop.env | {"CREASE_DATABASE_URL": postgres_server.clone(), "CREASE_GAUGE_SECONDS": "0.2"}
    folder = tmp_path_factory.mktemp("watched")
    with collecting() as collector, product(folder, env, laptop, s3_server, traced=collector.endpoint) as made:
        video = SAMPLE.read_bytes()
        begun = made.initiate(len(video))
        put(begun, video)
        made.complete(begun.job_id)
        [*_, result] = made.watch(begun.job_id)
        bad = made.uploaded(b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + b"<html>not a video</html>" * 50)
        [*_, refused] = made.watch(bad)
        assert (result.status, refused.status) == (job_pb2.JOB_STATUS_DONE, job_pb2.JOB_STATUS_FAILED)
        query = urllib.parse.urlsplit(begun.presigned_url).query
        tokens = [made.coach[0][1].removeprefix("Bearer "), *_token_files(laptop.folder)]
        signature = urllib.parse.parse_qs(query)["X-Amz-Signature"][0]
        secrets = [*tokens, signature, *PLAYERS, PLAYERS[0].split()[1]]
        yield Watched(made, collector, begun.job_id, secrets, result)


def _token_files(folder: Path) -> list[str]:
    return [file.read_text() for file in folder.glob("*.jwt")]


def test_one_trace_spans_the_upload_to_the_report(watched: Watched) -> None:
    """Each span's parent is the span that handed the work over; no span lacks its parent."""
    # Each program exports its spans at intervals, the analyzer at its end.
    expected = {"complete": 1, "IntakeService/ConfirmUpload": 1, "queue": 1, "launch": 1, "analysis": 1}
    # Of quick, of deep before its film, and of deep.
    expected["LaunchService/SubmitResult"] = 3
    wait_until(
        lambda: all([span.name for span in watched.trace].count(name) == count for name, count in expected.items())
    )
    wait_until(
        lambda: all(not span.parent or span.parent in {one.id for one in watched.trace} for span in watched.trace)
    )
    root = watched.span("upload", "UploadService/InitiateUpload")
    created = watched.span("jobs", "IntakeService/CreateJob")
    complete = watched.span("upload", "complete")
    queue, launch = watched.span("jobs", "queue"), watched.span("controller", "launch")
    analysis = watched.span("analyzer", "analysis")
    deep = watched.span("analyzer", "deep")
    by_id = {span.id: span for span in watched.trace}
    assert root.parent == ""
    assert created.parent == root.id
    assert complete.parent == queue.parent == launch.parent == created.id
    assert by_id[watched.span("jobs", "IntakeService/ConfirmUpload").parent] == complete
    s3_calls = {span.name for span in watched.trace if span.parent == complete.id and span.program == "upload"}
    assert {"S3.HeadObject", "S3.GetObject"} <= s3_calls
    assert analysis.parent == launch.id
    assert analysis.attributes["exit_status"] == 0
    assert watched.span("analyzer", "fetch").parent == deep.parent == analysis.id
    assert {by_id[span.parent].name for span in watched.trace if span.name in ("pose", "measure", "overlay")} <= {
        "quick",
        "deep",
    }
    published = [span for span in watched.trace if span.name == "LaunchService/SubmitResult"]
    assert [by_id[by_id[span.parent].parent].name for span in sorted(published, key=lambda span: span.began)] == [
        "quick",
        "deep",
        "deep",
    ]
    assert root.began <= queue.began <= queue.ended <= launch.ended <= deep.began < published[-1].ended


def test_the_trace_links_to_the_call_that_completed_the_upload(watched: Watched) -> None:
    """A client's call has a trace of its own, and the video's trace links to it."""
    [link] = watched.span("upload", "complete").links
    [call] = [span for span in watched.collector.spans if (span.trace, span.id) == link]
    assert call.name == "UploadService/CompleteUpload"
    assert call.trace != watched.trace[0].trace


def test_each_call_and_action_is_one_line_with_its_caller_outcome_and_time(watched: Watched) -> None:
    """The lines of all programs about a job have its id."""
    lines = watched.lines()
    of_job = [line for line in lines if line.get("job_id") == watched.job_id]
    assert {line["program"] for line in of_job} == {"jobs", "upload", "controller"}
    calls = [line for line in lines if line["event"] == "rpc"]
    for line in calls:
        assert {"method", "caller", "outcome", "ms", "trace_id"} <= line.keys(), line
    [completed] = [line for line in calls if "CompleteUpload" in line["method"] and line["job_id"] == watched.job_id]
    assert completed["s3_ms"] > 0
    assert completed["jobs_ms"] > 0
    confirmed = [line for line in of_job if "ConfirmUpload" in line.get("method", "")]
    assert all(line["db_ms"] > 0 for line in confirmed)
    [created] = [line for line in of_job if line["event"] == "create"]
    assert {"why", "outcome", "ms", "launch_no"} <= created.keys()
    assert any(line["event"] == "reconcile" for line in lines)
    assert all(line["job_id"] for line in calls if re.search("Heartbeat|StartLaunch|SubmitResult", line["method"]))


def test_no_log_holds_a_token_a_signature_or_a_player_s_name(watched: Watched) -> None:
    """Neither the secrets of this test, nor any string that looks like one."""
    logs = [*watched.product.folder.rglob("*.log"), *watched.product.folder.rglob("log")]
    assert len(logs) >= 3
    for log in logs:
        text = log.read_text()
        assert [secret for secret in watched.secrets if secret in text] == [], log
        assert not re.search(r"X-Amz-|eyJ[\w-]{8,}\.|Bearer |Lease \w", text), log


def test_exactly_the_listed_metrics_are_exported(watched: Watched) -> None:
    """docs/operating.md, held against three running programs; without the metrics of a cluster, TLS or SQS."""
    page = (ROOT / "docs" / "operating.md").read_text()
    listed = set(re.findall(r"^\| `(crease_\w+)` \|", page, re.MULTILINE))
    exported = set[str]()
    for program in ("jobs", "upload", "controller"):
        exported |= names(scrape(watched.product.metrics_port(program)))
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in exported}
    assert families - listed == set()
    elsewhere = {"crease_sqs_messages_total", "crease_view_age_seconds", "crease_kube_requests_total"}
    elsewhere.add("crease_certificate_expires_timestamp_seconds")
    assert listed - families == elsewhere


def test_the_cost_of_the_video_is_exported(watched: Watched) -> None:
    """Calls to S3, the queue, and the CPU time of its analysis, equal to its result."""
    upload, jobs, controller = (scrape(watched.product.metrics_port(name)) for name in ("upload", "jobs", "controller"))
    assert (value(upload, "crease_s3_requests_total", operation="HeadObject", outcome="ok") or 0) >= 2
    assert (value(controller, "crease_queue_to_job_seconds_count") or 0) == 2
    results: dict[str, Any] = json_format.MessageToDict(watched.result.results)
    summary = results["pose"]["pose_summary"]
    cpu_per_second = summary["run"]["cpu_seconds"]["pose"] / summary["duration_seconds"]
    counted = value(jobs, "crease_analyzer_cpu_per_video_second_sum", stage="pose")
    assert counted == pytest.approx(cpu_per_second)
