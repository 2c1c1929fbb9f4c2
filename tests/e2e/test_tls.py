"""A release with TLS: programs, analyzers and clients trust its authority, and unencrypted calls fail."""

from collections.abc import Iterator

import pytest

from testing.servers import certificates
from tests.e2e.cluster import Release, in_a_namespace

CLEAR = """
import os, grpc
address = os.environ["CREASE_JOBS_ENDPOINT"]
assert address.startswith("https://"), address
try:
    grpc.channel_ready_future(grpc.insecure_channel(address.removeprefix("https://"))).result(timeout=5)
    print("answered")
except grpc.FutureTimeoutError:
    print("no answer")
"""


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    """A release with a certificate for the names of its Services."""
    with in_a_namespace("lords", **{"tls.secret": "servers", "tls.caConfigMap": "authority"}) as made:
        hosts = (f"{made.name}-{program}.{made.namespace}.svc" for program in ("jobs", "upload"))
        certificate, key = certificates.make(tmp_path_factory.mktemp("tls"), *hosts)
        made.kubectl("create", "secret", "tls", "servers", f"--cert={certificate}", f"--key={key}")
        made.kubectl("create", "configmap", "authority", f"--from-file=ca.crt={certificate}")
        made.install()
        yield made


def test_an_analysis_goes_through_tls_to_its_report(release: Release) -> None:
    """The client, the programs and the analyzer's pod use https:// on each hop."""
    (job_id,) = release.submit()
    (job,) = release.wait(job_id)
    assert job["status"] == "JOB_STATUS_DONE", job
    (report,) = release.ask("artifact", job_id, "report.html")
    assert report["status"] == 200


def test_the_command_line_goes_through_tls_too(release: Release) -> None:
    """`helm test` runs `crease analyze` with the authority of the release."""
    assert "Phase:          Succeeded" in release.helm("test", release.name, "--timeout", "10m", seconds=660)


def test_an_unencrypted_call_gets_no_answer(release: Release) -> None:
    """A client without TLS gets no connection."""
    command = ("exec", "--stdin", f"deploy/{release.name}-trial", "--", "python", "-")
    assert release.kubectl(*command, stdin=CLEAR.encode()).strip() == "no answer"
