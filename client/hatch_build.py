"""Adds the stubs of the public protos to the wheel; the rest is for Crease's own programs."""

from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

MACHINERY = ("crease/analysis/*", "crease/cleanup/*", "crease/jobs/v1/intake_pb2*", "crease/jobs/v1/sweep_pb2*")


class PublicStubs(BuildHookInterface[Any]):
    """The stubs of all other files in `gen/`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        generated = Path(self.root).parent / "gen"
        for path in sorted(generated.glob("crease/**/*.py*")):
            name = path.relative_to(generated).as_posix()
            if "__pycache__" not in name and not any(fnmatch(name, pattern) for pattern in MACHINERY):
                build_data["force_include"][str(path)] = name
