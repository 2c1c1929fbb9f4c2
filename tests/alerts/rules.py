"""The chart's alerts, each with a series that fires it and the nearest series that does not.

Series use promtool's notation: `0+1x10` counts to 10, one value per minute; `5x10` stays at 5; `_` is a gap.
"""

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml

from tests.chart.chart import CHART

RULES = CHART / "files" / "alerts.yaml"
METRIC = re.compile(r"\bcrease_[a-z_0-9]+")

Series = dict[str, str]


@cache
def rules() -> dict[str, dict[str, Any]]:
    """The rules by alert name."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


@dataclass(frozen=True)
class Case:
    """`minute` is the evaluation time; `labels` are the additional labels of the expected alert."""

    fires: Series
    summary: str
    silent: Series
    minute: int = 10
    labels: tuple[tuple[str, str], ...] = ()


def gauge(name: str, value: int, labels: str = "") -> Series:
    return {f'crease_{name}{{namespace="nets"{labels}}}': f"{value}x20"}


def queued(fires: int, silent: int, summary: str) -> Case:
    status = ',status="queued"'
    return Case(gauge("jobs", fires, status), summary, gauge("jobs", silent, status))


def calls(ok: str, failed: str) -> Series:
    series = 'crease_rpc_seconds_count{namespace="nets",method="JobService/GetJob",code="%s"}'
    return {series % "OK": ok, series % "UNAVAILABLE": failed}


def latency(method: str, within_a_second: str) -> Series:
    series = 'crease_rpc_seconds_bucket{namespace="nets",method="%s",le="%s"}'
    return {series % (method, "1"): within_a_second, series % (method, "2.5"): "0+100x20",
            series % (method, "+Inf"): "0+100x20"}  # fmt: skip


def s3(outcome: str, failed: str) -> Series:
    series = 'crease_s3_requests_total{namespace="nets",operation="HeadObject",outcome="%s"}'
    return {series % "ok": "0+100x20", series % outcome: failed}


def ended(ending: str, values: str) -> Series:
    return {f'crease_launches_ended_total{{namespace="nets",ending="{ending}",accelerator="cpu"}}': values}


def rows(jobs: int, launches: int, waiting: int, final: int) -> Series:
    named = {"launches_open": launches, "jobs_waiting": waiting, "jobs_final": final}
    return gauge("jobs", jobs, ',status="done"') | {key: value for name, number in named.items()
                                                    for key, value in gauge(name, number).items()}  # fmt: skip


CASES = {
    "CreaseUploadsStuck": Case(
        gauge("awaiting_upload_overdue", 6),
        "6 uploads were started over 5 minutes ago and not completed",
        gauge("awaiting_upload_overdue", 5),
    ),
    "CreaseFailures": Case(
        gauge("failures_last_hour", 11), "11 jobs failed within the last hour", gauge("failures_last_hour", 10)
    ),
    "CreaseBacklog": queued(11, 10, "11 jobs are queued"),
    "CreaseBacklogLarge": queued(51, 50, "51 jobs are queued; the controller launches too few of them"),
    "CreaseOldestQueued": Case(
        gauge("oldest_job_age_seconds", 601, ',status="queued"'),
        "A job has been queued for 10m 1s",
        gauge("oldest_job_age_seconds", 600, ',status="queued"')
        | gauge("oldest_job_age_seconds", 9000, ',status="deep_running"'),
    ),
    "CreaseLeasesLost": Case(
        {'crease_leases_lost_total{namespace="nets"}': "0+1x20"},
        "About 10 analyses sent no heartbeat and lost their lease within 15 minutes",
        {'crease_leases_lost_total{namespace="nets"}': "7x5 8x15"},
    ),
    "CreaseImageBroken": Case(
        ended("image", "_x8 1x12"),
        "Launches fail because the analyzer cannot start: check its image, model and configuration",
        # Earlier failures, and failures caused by the video.
        ended("image", "4x20") | ended("bad_input", "0+1x20"),
        minute=20,
    ),
    "CreaseInvariantBroken": Case(
        rows(10, 2, 3, 4),
        "The job counts are inconsistent: open launches + waiting jobs + final jobs differ from all jobs",
        rows(10, 2, 3, 5),
    ),
    "CreaseGhosts": Case(gauge("ghosts", 1), "1 Kubernetes Jobs run without an open launch",
                         {'crease_ghosts{namespace="nets"}': "1x4 0x16"}),
    "CreaseOrphans": Case(gauge("orphans", 2), "2 open launches have no Kubernetes Job",
                          {'crease_orphans{namespace="nets"}': "2x4 0x16"}),
    "CreaseViewStale": Case(
        gauge("view_age_seconds", 61, ',kind="pods"'),
        "The controller's cache of pods is 1m 1s old; the controller takes no action",
        gauge("view_age_seconds", 60, ',kind="pods"'),
        labels=(("kind", "pods"),),
    ),
    "CreaseNoLeader": Case(
        {'crease_leader{namespace="nets"}': "1x4 _x16", 'crease_leader{namespace="other"}': "1x20"},
        "No controller is active: no job is launched, cancelled or ended",
        # One of two replicas leads; another replica replaced the first leader.
        {
            'crease_leader{namespace="nets",pod="a"}': "1x4 0x16",
            'crease_leader{namespace="nets",pod="b"}': "0x4 1x16",
        },
        minute=15,
    ),
    "CreaseNoNumbers": Case(
        {'crease_jobs{namespace="nets",status="done"}': "5x4 _x16",
         'crease_jobs{namespace="other",status="done"}': "5x20"},
        "No job counts are exported: jobs or its database is down",
        # Another replica exports the counts now.
        {
            'crease_jobs{namespace="nets",status="done",pod="a"}': "5x4 _x16",
            'crease_jobs{namespace="nets",status="done",pod="b"}': "_x4 5x16",
        },
        minute=15,
    ),
    "CreaseCallsFail": Case(
        calls("0+90x20", "0+10x20"), "10% of all calls fail with a server error", calls("0+97x20", "0+3x20")
    ),
    "CreaseCallsSlow": Case(
        latency("JobService/GetJob", "0+90x20"),
        "1 % of the calls of JobService/GetJob take over a second",
        latency("JobService/GetJob", "0+100x20") | latency("JobService/WatchJob", "0x20"),
        minute=15,
        labels=(("method", "JobService/GetJob"),),
    ),
    "CreaseS3Fails": Case(
        s3("away", "0+25x20"), "20% of the requests to S3 fail", s3("away", "0+10x20") | s3("refused", "0+900x20")
    ),
    "CreasePoolFull": Case(
        gauge("pool_sessions", 3, ',state="waited_for"'),
        "3 calls wait for a PostgreSQL session",
        gauge("pool_sessions", 10, ',state="busy"') | gauge("pool_sessions", 0, ',state="waited_for"'),
    ),
    "CreaseLoopLate": Case(
        gauge("loop_late_seconds", 61, ',loop="expiry"'),
        "The background loop expiry has completed no pass for 1m 1s",
        gauge("loop_late_seconds", 60, ',loop="expiry"'),
        labels=(("loop", "expiry"),),
    ),
    "CreaseExpiryLate": Case(
        gauge("overdue_seconds", 61),
        "A lost launch or an expired upload should have ended 1m 1s ago",
        gauge("overdue_seconds", 60),
    ),
    "CreaseClockSkew": Case(
        {'crease_clock_skew_seconds{namespace="nets"}': "-31x20"},
        "The clocks of the controller and of the API server differ by 31s",
        {'crease_clock_skew_seconds{namespace="nets"}': "30x20"},
    ),
    "CreaseIssuerKeys": Case(
        {'crease_issuer_key_faults_total{namespace="nets",kind="failed_fetch"}': "0+1x20"},
        "10 times within 10 minutes a key of a token issuer was missing (failed_fetch)",
        {'crease_issuer_key_faults_total{namespace="nets",kind="unknown_key"}': "0+9x20"},
        labels=(("kind", "failed_fetch"),),
    ),
    "CreaseCertificateExpires": Case(
        # The series begin at time 0.
        gauge("certificate_expires_timestamp_seconds", 7 * 86400 + 10 * 60 - 1),
        "A TLS certificate expires in 6d 23h 59m 59s",
        gauge("certificate_expires_timestamp_seconds", 7 * 86400 + 10 * 60),
    ),
    "CreaseOutboxLags": Case(
        gauge("outbox_lag_seconds", 61),
        "An open transaction has held back events for 1m 1s",
        gauge("outbox_lag_seconds", 60),
    ),
    "CreaseRelayLags": Case(
        gauge("relay_lag_seconds", 3600),
        "The oldest message for SQS has been waiting for 1h 0m 0s",
        gauge("relay_lag_seconds", 60),
    ),
    "CreaseSubscriptionLags": Case(
        gauge("subscription_lag_seconds", 3600),
        "A service has not acknowledged an event for 1h 0m 0s",
        gauge("subscription_lag_seconds", 600),
    ),
    "CreaseClusterRefuses": Case(
        {'crease_kube_requests_total{namespace="nets",verb="create",code="403"}': "0+1x20"},
        "The API server answers 403 to the controller's create",
        {'crease_kube_requests_total{namespace="nets",verb="create",code="409"}': "0+1x20"},
        labels=(("verb", "create"), ("code", "403")),
    ),
    "CreaseGpuFallbacks": Case(
        {'crease_fallbacks_total{namespace="nets",reason="unschedulable"}': "0+1x20"},
        "About 20 analyses eligible for a GPU ran on the CPU within an hour",
        {'crease_fallbacks_total{namespace="nets",reason="unschedulable"}': "0x15 3x5"},
        minute=20,
    ),
}  # fmt: skip


def promtool_test(alert: str) -> dict[str, Any]:
    """Both series of an alert as a promtool test file."""
    case, rule = CASES[alert], rules()[alert]
    fired = {
        "exp_labels": {"namespace": "nets", "severity": rule["labels"]["severity"], **dict(case.labels)},
        "exp_annotations": {"summary": case.summary, "runbook_url": rule["annotations"]["runbook_url"]},
    }
    return {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "name": name,
                "interval": "1m",
                "input_series": [{"series": key, "values": value} for key, value in series.items()],
                "alert_rule_test": [{"eval_time": f"{case.minute}m", "alertname": alert, "exp_alerts": expected}],
            }
            for name, series, expected in (("fires", case.fires, [fired]), ("silent", case.silent, []))
        ],
    }
