"""The client of Crease: connect, upload, watch, wait, download. `crease_client.aio` is the same for asyncio.

with connect(jobs="https://jobs:443", upload="https://upload:443", token=token_file(path)) as client:
    session = client.sessions.CreateSession(CreateSessionRequest(title="Nets", request_id=str(uuid4())))
    upload = client.upload(Path("batter.mp4"), InitiateUploadRequest(session_id=session.session_id))
    job = client.wait(upload.job_id)
    client.download(job.job_id, "report.html", Path("report.html"))

The servers of Crease import the light modules of this package, so it loads the client only when a name is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crease_client.calls import token_file
    from crease_client.client import Client, connect

__all__ = ["Client", "connect", "token_file"]

_HOMES = {"Client": "client", "connect": "client", "token_file": "calls"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
