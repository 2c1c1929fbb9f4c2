"""Settings: read from the environment, once, typed. A missing or wrong one stops the program and names itself."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AliasGenerator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    ValidationError,
    model_validator,
)

from services.naming import OWNER_NAME
from services.rules import exit_codes
from services.rules.limits import CallerLimits


def _variable(field: str) -> str:
    return f"CREASE_{field.upper()}"


class Settings(BaseModel):
    """Fields are read from `CREASE_<FIELD>`, or from their alias where the variable has another name."""

    model_config = ConfigDict(
        alias_generator=AliasGenerator(validation_alias=_variable),
        extra="ignore",
        validate_by_name=True,
        validate_default=True,
        frozen=True,
        # A program loads one of many classes: validators of the others are never built.
        defer_build=True,
    )

    @classmethod
    def load(cls) -> Self:
        """The settings. Ends the program with exit code 78 and one line per wrong setting."""
        try:
            return cls.model_validate(dict(os.environ), by_alias=True, by_name=False)
        except ValidationError as error:
            for fault in error.errors():
                print(f"{fault['loc'][0]}: {fault['msg']}", file=sys.stderr)  # noqa: T201 (before logs exist)
            raise SystemExit(exit_codes.CONFIGURATION) from None


def _parsed(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except json.JSONDecodeError as error:
        raise ValueError(f"must be JSON: {error}") from None


OwnerName = Annotated[str, Field(pattern=rf"^{OWNER_NAME}$")]
# For values that are neither a word nor a number: the environment has them as JSON.
FromJson = BeforeValidator(_parsed)


class ServiceGrant(BaseModel):
    """An internal service: its name, what it may do, and whose rows it may reach."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
    may: frozenset[Literal["read", "write", "events"]] = Field(min_length=1)
    # `coach:ID` or `org:ID` each, with the ids that sessions have; `*`: every owner.
    owners: frozenset[OwnerName | Literal["*"]] = Field(min_length=1)

    @model_validator(mode="after")
    def _reads_what_it_writes(self) -> Self:
        if "write" in self.may and "read" not in self.may:
            raise ValueError("a service that may write must be able to read, too")
        return self


class Issuer(BaseModel):
    """A trusted token issuer.

    `people`: an identity provider; its claims are `sub`, `role`, `org_id` and `features`.
    `cluster`: a Kubernetes API server, or the laptop's issuer; `subjects` maps ServiceAccounts to programs.
    `service`: an issuer for internal services; `services` maps its subjects to what they may.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["people", "cluster", "service"]
    issuer: str
    # Where the issuer publishes its keys: http(s)://… or file:///…
    jwks_url: str
    # An API server has its own authority and publishes its keys only to an authenticated ServiceAccount.
    jwks_ca_file: Path | None = None
    jwks_token_file: Path | None = None
    subjects: dict[str, Literal["upload", "controller", "analyzer"]] = {}
    # The internal services among its subjects. A cluster's issuer may have some, too: their ServiceAccounts.
    services: dict[str, ServiceGrant] = {}
    # Of a cluster: its name, the only one that its controllers and pods may act for. Empty: they may act for any.
    cluster: str = ""
    # Of people: what the ids of their owners begin with. Unset: nothing for the only issuer, else `ISSUER|`.
    owner_prefix: str | None = None
    # Of people: the roles that their tokens may have. Unset: any, but superuser only of the only issuer.
    roles: frozenset[str] | None = None
    # Of people: the organisations that their tokens may have. Unset: any.
    organisations: frozenset[str] | None = None

    @model_validator(mode="after")
    def _each_subject_is_one_caller(self) -> Self:
        if self.services and self.kind == "people":
            raise ValueError("an issuer of people has no services: list them at an issuer of their own")
        if both := self.services.keys() & self.subjects.keys():
            raise ValueError(f"{', '.join(sorted(both))} cannot be a service and a program of Crease")
        return self


def owner_prefixes(issuers: Sequence[Issuer]) -> dict[str, str]:
    """What the ids of owners begin with, for each issuer of people.

    Raises ValueError if only some of several issuers have a prefix: the ids of the others would change with the number
    of issuers.
    """
    people = [issuer for issuer in issuers if issuer.kind == "people"]
    unset = [issuer.issuer for issuer in people if issuer.owner_prefix is None]
    if unset and len(unset) < len(people):
        raise ValueError(
            f"owner_prefix is missing for {', '.join(unset)}: set it for every issuer of people or for none"
        )
    default = "" if len(people) == 1 else "{}|"
    return {one.issuer: default.format(one.issuer) if one.owner_prefix is None else one.owner_prefix for one in people}


def _with_prefixes(issuers: tuple[Issuer, ...]) -> tuple[Issuer, ...]:
    owner_prefixes(issuers)
    return issuers


Issuers = Annotated[tuple[Issuer, ...], FromJson, AfterValidator(_with_prefixes)]


class WatchedSettings(Settings):
    """Settings of logs and metrics."""

    # The least severe level that is logged.
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    # host:port where Prometheus reads metrics. Empty: metrics are off.
    metrics_listen: str = Field(default="", pattern=r"^(\S+:\d+)?$")


class ServerSettings(WatchedSettings):
    """Settings of every gRPC server."""

    # host:port at which the server listens.
    listen: str = "127.0.0.1:50051"
    # The audience that every token must name.
    audience: str = "crease"
    # Trusted token issuers: of people, of internal services, and of the cluster's ServiceAccounts.
    issuers: Issuers
    # Seconds for which an issuer's last keys stay valid while it publishes none.
    issuer_keys_seconds: PositiveFloat = 86400.0
    # Upper bound of one caller's calls in flight, in each replica; 0: no bound. upload and the controller have none.
    caller_calls: NonNegativeInt = 100
    # Upper bound of one caller's open streams, in each replica; 0: no bound.
    caller_streams: NonNegativeInt = 100
    # Upper bound of the connections that carry one caller's calls and streams, in each replica; 0: no bound.
    caller_connections: NonNegativeInt = 100
    # PEM file of the server's certificate. Unset: the server does not speak TLS.
    tls_certificate: Path | None = None
    # PEM file of the private key of that certificate.
    tls_key: Path | None = None
    # PEM file of the authority of client certificates. Unset: clients need none.
    tls_client_ca: Path | None = None
    # How long running calls may take to finish after SIGTERM.
    drain_seconds: float = 10.0
    # http(s)://host:port of an OTLP collector, by gRPC. Empty: tracing is off.
    otlp_endpoint: str = Field(default="", pattern=r"^(https?://\S+)?$")
    # The share of new traces that is sampled.
    trace_share: float = Field(default=0.1, ge=0, le=1)

    @property
    def caller_limits(self) -> CallerLimits:
        """The upper bounds of what one caller has in flight."""
        return CallerLimits(self.caller_calls, self.caller_streams, self.caller_connections)
