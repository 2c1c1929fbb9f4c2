"""Attacks by tokens that a trusted issuer signed: odd claims, and claims of another issuer's people."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from crease.jobs.v1 import session_pb2, session_pb2_grpc
from services import dev_issuer
from testing.servers.identity_provider import IdentityProvider, identity_provider
from testing.servers.programs import Laptop, Program, running

Metadata = tuple[tuple[str, str], ...]
NORTH, SOUTH = "https://north.example", "https://south.example"


@pytest.fixture(scope="module")
def north() -> Iterator[IdentityProvider]:
    with identity_provider(NORTH) as provider:
        yield provider


@pytest.fixture(scope="module")
def south() -> Iterator[IdentityProvider]:
    with identity_provider(SOUTH) as provider:
        yield provider


def env(jobs_env: dict[str, str], laptop: Laptop, *people: dict[str, Any]) -> dict[str, str]:
    [cluster] = [entry for entry in dev_issuer.issuers(laptop.folder) if entry["kind"] == "cluster"]
    return jobs_env | {"CREASE_ISSUERS": json.dumps([*people, cluster])}


class Sessions:
    """The sessions of jobs, for the callers of the attacks."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = session_pb2_grpc.SessionServiceStub(channel)

    def create(self, caller: Metadata) -> session_pb2.Session:
        return self._stub.CreateSession(session_pb2.CreateSessionRequest(title="t"), metadata=caller)

    def ids(self, caller: Metadata) -> set[str]:
        listed = self._stub.ListSessions(session_pb2.ListSessionsRequest(), metadata=caller).sessions
        return {session.session_id for session in listed}

    def refusal(self, caller: Metadata) -> str:
        """The sentence of an UNAUTHENTICATED call."""
        with pytest.raises(grpc.RpcError) as caught:
            self.ids(caller)
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
        return str(caught.value.details())


def served(program: Program) -> Iterator[Sessions]:
    with running(program), grpc.insecure_channel(program.endpoint) as channel:
        yield Sessions(channel)


@pytest.fixture
def alone(jobs_env: dict[str, str], laptop: Laptop, north: IdentityProvider, tmp_path: Path) -> Iterator[Sessions]:
    """A jobs with one issuer of people, without further settings."""
    yield from served(Program("jobs", env(jobs_env, laptop, north.entry()), tmp_path / "log"))


@pytest.fixture
def both(
    jobs_env: dict[str, str], laptop: Laptop, north: IdentityProvider, south: IdentityProvider, tmp_path: Path
) -> Iterator[Sessions]:
    """A jobs with two issuers of people, without further settings."""
    yield from served(Program("jobs", env(jobs_env, laptop, north.entry(), south.entry()), tmp_path / "log"))


def test_claims_of_every_odd_kind_join_no_two_people(alone: Sessions, north: IdentityProvider) -> None:
    """An empty organisation is none, an odd claim is refused by its name, and every owner's id stays readable."""
    empty: object
    for empty in (None, "", " ", 0, False, [], {}):
        callers = [north.metadata(sub=f"boss-{n}-{empty!r}", role="org_pro", org_id=empty) for n in range(2)]
        session = alone.create(callers[0])
        assert (session.owner_type, alone.ids(callers[1])) == ("coach", set()), repr(empty)
    for claim, odd in {
        "org_id": (1, True, ["o-1"], {"id": "o-1"}, "o" * 256, "o\n1"),
        "role": (1, ["superuser"], {"superuser": True}),
        "features": ("video_upload_enabled", {"video_upload_enabled": True}, [1], [None]),
        "sub": ("", " ", "a\0b", "s" * 256),
        "exp": (True, "99999999999", 1e400),
    }.items():
        for value in odd:
            assert claim in alone.refusal(north.metadata(**{claim: value})), (claim, value)
    assert alone.create(north.metadata(sub="coach-9")).owner_id == "coach-9"


def test_equal_subjects_and_organisations_of_two_issuers_are_two_owners(
    both: Sessions, north: IdentityProvider, south: IdentityProvider
) -> None:
    """The id of an owner carries the issuer, also of an organisation."""
    mine = both.create(north.metadata())
    ours = both.create(north.metadata(role="org_pro", org_id="o-1"))
    assert (mine.owner_id, ours.owner_id) == (f"{NORTH}|coach-1", f"{NORTH}|o-1")
    assert both.ids(north.metadata(role="org_pro", org_id="o-1")) == {mine.session_id, ours.session_id}
    assert both.ids(south.metadata(role="org_pro", org_id="o-1")) == set()


def test_no_issuer_of_several_makes_a_superuser_unless_configured(both: Sessions, south: IdentityProvider) -> None:
    """The refusal names the role."""
    assert "superuser" in both.refusal(south.metadata(role="superuser"))


def test_an_issuer_asserts_only_what_it_may(
    jobs_env: dict[str, str], laptop: Laptop, north: IdentityProvider, south: IdentityProvider, tmp_path: Path
) -> None:
    """Roles and organisations are configured; ids without a prefix never read as those of another issuer."""
    people = [
        north.entry(owner_prefix="", roles=["coach_pro_plus", "superuser"]),
        south.entry(owner_prefix="south/", roles=["org_pro"], organisations=["o-1"]),
    ]
    for sessions in served(Program("jobs", env(jobs_env, laptop, *people), tmp_path / "log")):
        assert sessions.create(north.metadata()).owner_id == "coach-1"
        assert len(sessions.ids(north.metadata(role="superuser"))) == 1
        assert sessions.ids(south.metadata(role="org_pro", org_id="o-1")) == set()
        assert "superuser" in sessions.refusal(south.metadata(role="superuser"))
        assert "o-2" in sessions.refusal(south.metadata(role="org_pro", org_id="o-2"))
        assert "another issuer" in sessions.refusal(north.metadata(sub="south/coach-1"))
        assert "another issuer" in sessions.refusal(north.metadata(org_id="south/o-1"))


def test_prefixes_of_some_issuers_alone_stop_jobs_at_its_start(
    jobs_env: dict[str, str], laptop: Laptop, north: IdentityProvider, south: IdentityProvider, tmp_path: Path
) -> None:
    """Otherwise the other issuer's people would own the sessions without a prefix, once it is the only one."""
    people = [north.entry(owner_prefix=""), south.entry()]
    program = Program("jobs", env(jobs_env, laptop, *people), tmp_path / "log")
    with pytest.raises(AssertionError, match=f"owner_prefix is missing for {SOUTH}"), running(program):
        pass
