"""PostgreSQL stops under a running `jobs` and starts again."""

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from crease.jobs.v1 import job_pb2
from services import clients
from services.cli.laptop.postgres import find_binaries
from testing.servers.postgres import Server, postgres
from testing.servers.programs import Laptop, Program, running
from tests.conftest import IMPATIENT
from tests.integration.jobs.test_lifecycle import Road
from tests.integration.jobs.test_outbox import wait_until


class Switch:
    """Stops and starts a PostgreSQL, as its operator does."""

    def __init__(self, data: Path, log: Path) -> None:
        self._data = data
        self._log = log
        self._sockets = (data / "postmaster.pid").read_text().splitlines()[4]

    def off(self) -> None:
        self._control("stop", "-m", "fast")

    def on(self) -> None:
        self._control("start", "-l", str(self._log), "-o", f"-h '' -k {self._sockets}")

    def _control(self, *command: str) -> None:
        binaries = find_binaries()
        assert binaries is not None
        full = [str(binaries / "pg_ctl"), "-D", str(self._data), "-w", *command]
        subprocess.run(full, check=True, user=self._data.owner(), stdout=subprocess.DEVNULL, cwd="/")


@pytest.fixture
def own_postgres() -> Iterator[tuple[Server, Switch]]:
    with tempfile.TemporaryDirectory(prefix="crease-postgres-") as folder, postgres(Path(folder, "data")) as server:
        yield server, Switch(Path(folder, "data"), Path(folder, "data", "restart.log"))


def is_answered(call: Callable[[], object]) -> bool:
    """Whether the call succeeded; False if the database was still unavailable."""
    try:
        call()
    except grpc.RpcError as error:
        if clients.reason(error) != "DATABASE_AWAY":
            raise
        return False
    return True


@pytest.mark.slow
def test_calls_are_unavailable_until_the_database_is_back(
    own_postgres: tuple[Server, Switch], laptop: Laptop, tmp_path: Path
) -> None:
    """DATABASE_AWAY for every call meanwhile; then, after a pause, the same process serves, with the same leases."""
    server, switch = own_postgres
    env = laptop.env | IMPATIENT | {"CREASE_DATABASE_URL": server.clone(), "CREASE_LEASE_SECONDS": "3600"}
    with running(Program("jobs", env, tmp_path / "log")) as program:
        road = Road(program.endpoint, laptop)
        launch, secret = road.started()
        switch.off()
        for call in (lambda: road.job(launch.job_id), road.created, road.open,
                     lambda: road.beat(launch, secret, job_pb2.STAGE_QUICK)):  # fmt: skip
            with pytest.raises(grpc.RpcError) as refused:
                call()
            assert (refused.value.code().name, clients.reason(refused.value)) == ("UNAVAILABLE", "DATABASE_AWAY")
        switch.on()
        wait_until(lambda: is_answered(lambda: road.beat(launch, secret, job_pb2.STAGE_QUICK)))
        assert road.submit(launch, secret, job_pb2.STAGE_QUICK).stage == "QUICK_DONE"
        assert program.process is not None
        assert program.process.poll() is None
