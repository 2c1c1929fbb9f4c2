"""Probes the permissions of a compromised analyzer pod."""

import json
import os
import ssl
import urllib.error
import urllib.request
from pathlib import Path

token = Path("/var/run/secrets/crease.dev/token").read_text()
request = urllib.request.Request("https://kubernetes.default.svc/api", headers={"authorization": f"Bearer {token}"})
try:
    with urllib.request.urlopen(request, context=ssl._create_unverified_context(), timeout=10) as reply:
        answer = reply.status
except urllib.error.HTTPError as error:
    answer = error.code
try:
    Path("/app/services/backdoor.py").write_text("")
    root = "writable"
except OSError as error:
    root = error.strerror or ""
account = Path("/var/run/secrets/kubernetes.io/serviceaccount")
status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
found = {
    "root": root,
    "api_server": answer,
    "account": "a token" if account.exists() else "nothing there",
    "capabilities": int(status["CapEff"], 16),
    "user": os.getuid(),
}
print(json.dumps(found))
