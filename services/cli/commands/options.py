"""The options that all commands share, and what they select: the services and the runtime."""

import argparse
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeAlias

from services.cli.api import client, endpoints
from services.cli.api.client import Services
from services.cli.runtime.interface import Runtime
from services.cli.runtime.kubectl import Kubectl
from services.cli.runtime.kubernetes import KubernetesRuntime
from services.cli.runtime.laptop import LaptopRuntime

# What a user typed, parsed.
Arguments = argparse.Namespace
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
# Runs a command; returns its exit code.
Run = Callable[[Arguments], int]


def add_command(
    commands: Commands, name: str, run: Run, summary: str, *, calls_services: bool = True
) -> argparse.ArgumentParser:
    """Adds a command with the shared options. `calls_services`: in a cluster, the services are forwarded for it."""
    command = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
    command.set_defaults(run=run, calls_services=calls_services)
    folder = endpoints.default_folder()
    command.add_argument(
        "--state", type=Path, default=folder, metavar="DIR", help="state folder (default: %(default)s)"
    )
    command.add_argument("-n", "--namespace", default="", metavar="NAME", help="namespace (default: the context's)")
    command.add_argument("--release", default="", metavar="NAME", help="release, if the namespace has several")
    command.add_argument("--context", default="", metavar="NAME", help="kubeconfig context (default: the current one)")
    return command


def add_output(command: argparse.ArgumentParser) -> None:
    """Adds the options of a command that delivers a report."""
    command.add_argument("--out", type=Path, metavar="DIR", help="folder for the report (default: ./crease-report-JOB)")
    add_json(command)


def add_json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print one JSON object instead of sentences")


def connect(arguments: Arguments) -> AbstractContextManager[Services]:
    """The services, as the user. Raises CommandError."""
    return client.connect(endpoints.find(os.environ, arguments.state))


def connect_as_operator(folder: Path, *, retries: bool = True) -> AbstractContextManager[Services]:
    """The services, as a superuser. `retries` False: one attempt per call. Raises CommandError."""
    return client.connect(endpoints.as_admin(endpoints.find(os.environ, folder)), retries=retries)


def kubectl_arguments(arguments: Arguments) -> list[str]:
    """The arguments of kubectl that select the cluster and the namespace."""
    chosen = {"--namespace": arguments.namespace, "--context": arguments.context}
    return [f"{name}={value}" for name, value in chosen.items() if value]


def find_kubectl(arguments: Arguments) -> Kubectl:
    """kubectl for the namespace and the release that the options choose."""
    return Kubectl(*kubectl_arguments(arguments), release=arguments.release)


def find_runtime(arguments: Arguments) -> Runtime:
    """The namespace that the options choose; without options, the runtime of the services. Raises CommandError."""
    if not (arguments.in_cluster or arguments.release or kubectl_arguments(arguments)):
        found = endpoints.find(os.environ, arguments.state)
        if found.state_folder:
            return LaptopRuntime(Path(found.state_folder), found.metrics)
    return KubernetesRuntime(find_kubectl(arguments))
