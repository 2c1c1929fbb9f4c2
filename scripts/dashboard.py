"""Writes Grafana's dashboard `Video processing`: `python -m scripts.dashboard`. A test compares the file with it.

The rows from top to bottom: health, jobs by status, ended launches, calls and dependencies, cost.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[1] / "deploy" / "helm" / "crease" / "files" / "dashboard.json"
TITLE = "Video processing"
HERE = '{namespace=~"$namespace"%s}'
WIDTH = 24

Panel = dict[str, Any]


@dataclass(frozen=True)
class Chart:
    """One panel. `queries` are pairs of legend and expression; `worse_than` is the threshold of the alert."""

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    worse_than: float | None = None
    kind: str = "timeseries"


def here(metric: str, labels: str = "") -> str:
    """The selector of a metric in the chosen namespaces."""
    return metric + HERE % (f",{labels}" if labels else "")


def stat(title: str, expression: str, worse_than: float, unit: str = "short") -> Chart:
    return Chart(title, (("", expression),), unit, worse_than, "stat")


def quantiles(title: str, metric: str, by: str, labels: str = "") -> Chart:
    """The 50th and 99th percentile of a histogram, by a label if given."""
    grouped = ", ".join(filter(None, ("le", by)))
    legend = f" {{{{{by}}}}}" if by else ""
    rate = f"sum by ({grouped}) (rate({here(f'{metric}_bucket', labels)}[5m]))"
    return Chart(title, tuple((f"p{q}{legend}", f"histogram_quantile(0.{q}, {rate})") for q in (50, 99)), "s")


def rates(title: str, metric: str, by: str) -> Chart:
    legend = " ".join(f"{{{{{label}}}}}" for label in by.split(", "))
    return Chart(title, ((legend, f"sum by ({by}) (rate({here(metric)}[5m]))"),), "ops")


QUEUED = here("crease_jobs", 'status="queued"')
OLDEST = here("crease_oldest_job_age_seconds", 'status="queued"')
STREAMS = 'method!~".*(Watch|ListOrphans|ListVideos|ServerReflection).*"'

ROWS: dict[str, tuple[Chart, ...]] = {
    "Health": (
        stat("Queued", f"max({QUEUED})", 10),
        stat("Oldest queued", f"max({OLDEST})", 600, "s"),
        stat("Failed within an hour", f"max({here('crease_failures_last_hour')})", 10),
        stat("Uploads not completed", f"max({here('crease_awaiting_upload_overdue')})", 5),
        stat("Leaders missing", f"1 - clamp_max(sum({here('crease_leader')}), 1) or vector(1)", 0),
        stat("Age of the controller's cache", f"max({here('crease_view_age_seconds')})", 60, "s"),
        stat("Ghosts", f"max({here('crease_ghosts')})", 0),
        stat("Lost launches", f"max({here('crease_orphans')})", 0),
    ),
    "Jobs": (
        Chart("Jobs by status", (("{{status}}", f"max by (status) ({here('crease_jobs')})"),)),
        Chart("Oldest by status", (("{{status}}", f"max by (status) ({here('crease_oldest_job_age_seconds')})"),), "s"),
        quantiles("Time in each status", "crease_stage_seconds", "stage"),
        quantiles("From queued to Kubernetes Job", "crease_queue_to_job_seconds", ""),
        Chart(
            "Invariant: all jobs and their parts",
            (
                ("all", f"sum({here('crease_jobs')})"),
                ("open launches", f"sum({here('crease_launches_open')})"),
                ("waiting", f"sum({here('crease_jobs_waiting')})"),
                ("final", f"sum({here('crease_jobs_final')})"),
            ),
        ),
    ),
    "Launches": (
        rates("Launches ended", "crease_launches_ended_total", "ending, accelerator"),
        rates("Fallbacks from the GPU", "crease_fallbacks_total", "reason"),
        Chart("Leases lost", (("", f"sum(rate({here('crease_leases_lost_total')}[5m]))"),), "ops"),
        Chart("Free GPUs", (("", f"max({here('crease_gpus_free')})"),)),
        Chart("Launches not started", (("{{reason}}", f"sum by (reason) ({here('crease_workloads_pending')})"),)),
    ),
    "Calls and dependencies": (
        rates("Calls", "crease_rpc_seconds_count", "code"),
        quantiles("Call latency", "crease_rpc_seconds", "method", STREAMS),
        rates("S3", "crease_s3_requests_total", "operation, outcome"),
        rates("Kubernetes API", "crease_kube_requests_total", "verb, code"),
        rates("Issuer keys", "crease_issuer_key_faults_total", "kind"),
        rates("SQS", "crease_sqs_messages_total", "outcome"),
        Chart(
            "Event and message lag",
            (
                ("events", f"max({here('crease_outbox_lag_seconds')})"),
                ("SQS", f"max({here('crease_relay_lag_seconds')})"),
                ("subscriptions", f"max({here('crease_subscription_lag_seconds')})"),
            ),
            "s",
            60,
        ),
        Chart("Cache age by kind", (("{{kind}}", f"max by (kind) ({here('crease_view_age_seconds')})"),), "s", 60),
        Chart("Late background loops", (("{{loop}}", f"max by (loop) ({here('crease_loop_late_seconds')})"),), "s", 60),
        Chart("Overdue expiry", (("", f"max({here('crease_overdue_seconds')})"),), "s", 60),
        Chart("Clock skew", (("", f"max(abs({here('crease_clock_skew_seconds')}))"),), "s", 30),
        Chart(
            "Time until certificates expire",
            (
                ("next", f"min({here('crease_certificate_expires_timestamp_seconds')} - time())"),
                ("{{pod}}", f"min by (pod) ({here('crease_certificate_expires_timestamp_seconds')} - time())"),
            ),
            "s",
        ),
        Chart("Database sessions", (("{{state}}", f"sum by (state) ({here('crease_pool_sessions')})"),)),
    ),
    "Cost": (
        quantiles("CPU seconds per second of video", "crease_analyzer_cpu_per_video_second", "stage"),
        Chart("Versions", (("{{version}}", f"count by (version) ({here('crease_build_info')})"),)),
    ),
}


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it."""
    return {
        "title": TITLE,
        "uid": "crease-video-processing",
        "schemaVersion": 39,
        "tags": ["crease"],
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "30s",
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"},
                {
                    "name": "namespace",
                    "type": "query",
                    "datasource": {"type": "prometheus", "uid": "$datasource"},
                    "query": "label_values(crease_build_info, namespace)",
                    "refresh": 2,
                    "includeAll": True,
                    "allValue": ".*",
                    "multi": True,
                    "current": {"text": "All", "value": "$__all"},
                },
            ]
        },
        "panels": list(_panels()),
    }


def _panels() -> Iterator[Panel]:
    top, number = 0, 1
    for title, charts in ROWS.items():
        yield {"id": number, "type": "row", "title": title, "gridPos": {"h": 1, "w": WIDTH, "x": 0, "y": top}}
        top, number = top + 1, number + 1
        width, height = (3, 4) if charts[0].kind == "stat" else (8, 8)
        across = WIDTH // width
        for place, chart in enumerate(charts):
            row, column = divmod(place, across)
            at = {"h": height, "w": width, "x": column * width, "y": top + row * height}
            yield {"id": number, "gridPos": at, **_panel(chart)}
            number += 1
        top += height * -(-len(charts) // across)


def _panel(chart: Chart) -> Panel:
    source = {"type": "prometheus", "uid": "$datasource"}
    steps: list[Panel] = [{"color": "green", "value": None}]
    if chart.worse_than is not None:
        steps.append({"color": "red", "value": chart.worse_than})
    targets = [
        {"refId": chr(ord("A") + place), "datasource": source, "expr": expression, "legendFormat": legend}
        for place, (legend, expression) in enumerate(chart.queries)
    ]
    return {
        "type": chart.kind,
        "title": chart.title,
        "datasource": source,
        "fieldConfig": {
            "defaults": {"unit": chart.unit, "thresholds": {"mode": "absolute", "steps": steps}},
            "overrides": [],
        },
        "targets": targets,
    }


def queries() -> list[str]:
    """Every query of the dashboard."""
    return [expression for charts in ROWS.values() for chart in charts for _, expression in chart.queries]


def text() -> str:
    """The content of the file."""
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
