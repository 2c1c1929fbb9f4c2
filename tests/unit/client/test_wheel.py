"""The wheel that other teams install holds all that it needs, and nothing of the servers."""

import subprocess
import sys
import zipfile
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

from services import VERSION
from services.jobs.domain import authorization as jobs_rights
from services.upload import authorization as upload_rights
from testing.servers.programs import ROOT

# Without this repository on the path.
IMPORT = """
import sys
root, wheel = sys.argv[1:]
sys.path[:] = [wheel, *(path for path in sys.path if path and (not path.startswith(root) or "site-packages" in path))]
import crease_client.aio, crease_client.client, crease_client.reasons
import crease.events.v1.event_pb2_grpc
assert crease_client.connect is crease_client.client.connect
print(crease_client.__file__, *(name for name in sys.modules if name.partition(".")[0] == "services"))
"""


# The contract names it there.
OF_A_LAUNCH = "/crease.upload.v1.UploadService/SignLaunch"


def rpcs(names: Iterable[str]) -> set[str]:
    """The RPCs that files declare, by the names of the files without an ending."""
    modules = [import_module(name.replace("/", ".") + "_pb2") for name in names]
    return {
        f"/{service.full_name}/{method.name}"
        for module in modules
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }


def all_protos() -> set[str]:
    return {
        path.relative_to(ROOT / "protos").with_suffix("").as_posix() for path in ROOT.glob("protos/crease/**/*.proto")
    }


def public_protos() -> set[str]:
    """Those that `make examples` generates for other languages."""
    listed = subprocess.run(
        ["make", "--no-print-directory", "--eval", "listed: ; @echo $(PUBLIC_PROTOS)", "listed"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return {name.removeprefix("protos/").removesuffix(".proto") for name in listed.stdout.split()}


def test_the_machinery_is_apart_from_what_clients_generate() -> None:
    """People and services call every public RPC, and none of the others; no public file imports one of the others."""
    public = public_protos()
    others = all_protos() - public
    table = {**jobs_rights.TABLE, **upload_rights.TABLE}
    clients = {name for name, callers in table.items() if not callers <= {"upload", "controller", "pod", "lease"}}
    assert rpcs(public) == clients | {OF_A_LAUNCH}
    assert rpcs(others) == table.keys() - clients - {OF_A_LAUNCH}
    for name in public:
        needed = {file.name for file in import_module(name.replace("/", ".") + "_pb2").DESCRIPTOR.dependencies}
        assert not needed & {f"{other}.proto" for other in others}


def test_the_wheel_alone_is_a_client(tmp_path: Path) -> None:
    """It is typed, carries the version, and imports nothing of the servers."""
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=ROOT / "client", check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    assert wheel.name == f"crease_client-{VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "wheel")
    assert {"crease_client/py.typed", "crease/upload/v1/upload_pb2.pyi"} <= names
    assert {name.removesuffix("_pb2.py") for name in names if name.endswith("_pb2.py")} == public_protos()
    assert not any("__pycache__" in name for name in names)
    command = [sys.executable, "-c", IMPORT, str(ROOT), str(tmp_path / "wheel")]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout.split() == [str(tmp_path / "wheel" / "crease_client" / "__init__.py")]
