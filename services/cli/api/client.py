"""The services, for the user of a command: crease_client, with its errors as sentences and exit codes."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import crease_client
from crease_client import errors
from crease_client.client import Client
from crease_client.errors import CreaseError
from services.cli.api import endpoints
from services.cli.api.endpoints import Endpoints, StateDir
from services.cli.errors import INTERNAL, UNAVAILABLE, USAGE, CommandError

Reply = TypeVar("Reply")


@dataclass(frozen=True)
class Services(Client):
    """The client of one user. `call` is for every RPC, `translated` for the sequences of calls."""

    # Empty for a cluster.
    state_folder: str = ""
    # Distinguishes these services and this user from others.
    identity: str = ""

    def call(self, method: Callable[..., Reply], request: Any, *, seconds: float | None = None) -> Reply:
        """Calls an RPC; `seconds` replaces its deadline. Raises CommandError."""
        with self.translated():
            return method(request, timeout=seconds)

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Turns an error of the client in this block into CommandError."""
        try:
            yield
        except CreaseError as error:
            if isinstance(error, errors.Unavailable):
                self.check_laptop_is_up()
            raise to_command_error(error) from error

    def check_laptop_is_up(self) -> None:
        """Raises CommandError if the `crease up` behind the services has ended: waiting is useless then."""
        if self.state_folder and not endpoints.is_up(StateDir(Path(self.state_folder))):
            raise CommandError("`crease up` has ended; start it again, and it continues queued jobs.", UNAVAILABLE)


@contextlib.contextmanager
def connect(found: Endpoints, *, retries: bool = True) -> Iterator[Services]:
    """Opens the channels to the services and closes them after the block. `retries` False: one attempt per call."""
    token = crease_client.token_file(Path(found.token_file))
    with crease_client.connect(
        jobs=found.jobs_endpoint, upload=found.upload_endpoint, token=token, retries=retries
    ) as client:
        yield Services(
            **vars(client),
            state_folder=found.state_folder,
            identity=found.state_folder or f"{found.jobs_endpoint} {found.token_file}",
        )


def to_command_error(error: CreaseError) -> CommandError:
    """The sentence and the exit code for an error: the service's own message wherever it sent one."""
    match error:
        case errors.Unavailable():
            # Without an ErrorInfo reason the channel wrote the message: addresses and errno, for engineers.
            cause = f" ({error})" if error.reason else ""
            advice = "Check that `crease up` is running or, for a cluster, that its endpoints are right."
            return CommandError(f"The services are unavailable{cause}. {advice}", UNAVAILABLE)
        case errors.NotFound() | errors.FailedPrecondition() | errors.AlreadyExists():
            return CommandError(f"{error}.", is_refusal=True)
        case errors.Unauthenticated():
            return CommandError(f"The service rejected your token: {error}.")
        case errors.InvalidArgument():
            return CommandError(f"{error}.", USAGE)
        case errors.Internal():
            return CommandError(f"The service failed: {error}.")
        case errors.S3Unavailable():
            return CommandError(f"{error}.", UNAVAILABLE)
        case errors.TokenError():
            return CommandError(f"{error}.", USAGE)
        case _:
            return CommandError(f"{error}.", INTERNAL)
