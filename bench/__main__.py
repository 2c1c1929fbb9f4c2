"""`python -m bench [NAME ...]`: prints each figure on its own line as soon as it is measured."""

from __future__ import annotations

import importlib
import os
import pkgutil
import platform
import sys

import bench


def main(names: list[str]) -> None:
    """Runs the named benches, or all of them."""
    modules = {module.name for module in pkgutil.iter_modules(bench.__path__)} - {"__main__", "figures"}
    there = sorted(name for name in modules if not name.startswith("accuracy"))  # `make accuracy` runs these
    if unknown := sorted(set(names) - set(there)):
        sys.exit(f"No bench is called {', '.join(unknown)}. There are: {', '.join(there)}.")
    for name in names or there:
        for figure in importlib.import_module(f"bench.{name}").run():
            print(figure, flush=True)
    load = os.getloadavg()[0]
    print(f"# {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, load {load:.1f}")


if __name__ == "__main__":
    main(sys.argv[1:])
