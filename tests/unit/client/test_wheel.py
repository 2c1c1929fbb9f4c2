"""The wheel that other teams install holds all that it needs, and nothing of the servers."""

import subprocess
import sys
import zipfile
from pathlib import Path

from services import VERSION
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
    assert not any(name.startswith("crease/analysis") or "__pycache__" in name for name in names)
    command = [sys.executable, "-c", IMPORT, str(ROOT), str(tmp_path / "wheel")]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout.split() == [str(tmp_path / "wheel" / "crease_client" / "__init__.py")]
