"""Every call from one program to another has a time limit."""

import ast
from collections.abc import Iterator
from pathlib import Path

from crease.analysis.v1 import launch_pb2
from crease.cleanup.v1 import cleanup_pb2
from crease.events.v1 import event_pb2
from crease.jobs.v1 import intake_pb2, job_pb2, session_pb2, share_pb2
from crease.upload.v1 import orphan_pb2, upload_pb2
from testing.servers.programs import ROOT

PROTOS = (launch_pb2, event_pb2, intake_pb2, job_pb2, session_pb2, share_pb2, cleanup_pb2, upload_pb2, orphan_pb2)
METHODS = {
    method.name: method.server_streaming
    for proto in PROTOS
    for service in proto.DESCRIPTOR.services_by_name.values()
    for method in service.methods
} | {"Check": False}
# The service config of crease_client has the deadlines. Streams last until the client leaves; keepalive pings end those
# of a silent peer.
BY_CONFIG = {"services/web/calls.py": ("call", "stream")}


def calls() -> Iterator[tuple[Path, ast.Call]]:
    """Calls of stubs: by the name of an RPC, or with the metadata that each of our calls carries."""
    for path in sorted((ROOT / "services").rglob("*.py")):
        for function in ast.walk(ast.parse(path.read_text())):
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if function.name in BY_CONFIG.get(str(path.relative_to(ROOT)), ()):
                continue
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and _is_of_stub(node):
                    yield path, node


def _is_of_stub(call: ast.Call) -> bool:
    if isinstance(call.func, ast.Attribute):
        # A servicer may call a method of its own or of another servicer, with the context.
        is_own = isinstance(call.func.value, ast.Name) and call.func.value.id == "self"
        is_own |= any(isinstance(argument, ast.Name) and argument.id == "context" for argument in call.args)
        if call.func.attr in METHODS:
            return not is_own and not METHODS[call.func.attr]
    return any(keyword.arg == "metadata" for keyword in call.keywords)


def test_every_unary_call_has_a_deadline() -> None:
    """A peer that never answers holds no program for ever."""
    found = list(calls())
    assert len(found) >= 6
    without = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path, call in found
        if "timeout" not in {keyword.arg for keyword in call.keywords}
    ]
    assert without == []
