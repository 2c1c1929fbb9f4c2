"""Deletes the Kubernetes Jobs and the Lease that the controller created in this namespace, unknown to Helm."""

import os
import ssl
import urllib.error
import urllib.request
from pathlib import Path

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
namespace = (ACCOUNT / "namespace").read_text()
tls = ssl.create_default_context(cafile=ACCOUNT / "ca.crt")
for path in (
    f"batch/v1/namespaces/{namespace}/jobs?labelSelector=crease.dev/cluster={os.environ['CREASE_CLUSTER']}",
    f"coordination.k8s.io/v1/namespaces/{namespace}/leases/{os.environ['CREASE_LEADER_LEASE']}?",
):
    request = urllib.request.Request(
        f"https://kubernetes.default.svc/apis/{path}&propagationPolicy=Background",
        method="DELETE",
        headers={"authorization": f"Bearer {(ACCOUNT / 'token').read_text()}"},
    )
    try:
        urllib.request.urlopen(request, context=tls, timeout=30).close()
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise
