"""Hostile requests: every unary RPC by every caller, with hostile values, broken messages or random bytes."""

import base64
import json
import random
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from services.jobs.domain import authorization
from testing.servers.postgres import Server
from testing.servers.programs import Laptop, Program, lease, running
from tests.conftest import IMPATIENT
from tests.integration.jobs import filled
from tests.integration.jobs.test_lifecycle import Road

UNARY = [name for name, method in filled.RPCS.items() if not method.server_streaming]
# The codes that a hostile request may get. INTERNAL and UNKNOWN are missing: they would be faults of jobs.
ANSWERS = {
    "OK", "INVALID_ARGUMENT", "UNAUTHENTICATED", "PERMISSION_DENIED", "NOT_FOUND", "ALREADY_EXISTS",
    "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED", "ABORTED",
}  # fmt: skip
DEEP = base64.urlsafe_b64encode(b"[" * 100_000).decode()
TOKEN = base64.urlsafe_b64encode(json.dumps([1, 2, 3]).encode()).decode()
STRINGS = [
    "", "\0", "a\0b", "é" * 100, "🏏" * 2000, "a" * 100_000, "'; DROP TABLE events; --", "%s%n", "../../etc/passwd",
    str(uuid.UUID(int=0)), "{" + str(uuid.UUID(int=0)) + "}", "0" * 32, "9" * 40 + "-1", f"{uuid.UUID(int=0)}-1", "c1",
    "\ud7ff\ue000\uffff", "-1", "NaN", DEEP, TOKEN, "bGFsYQ", "٣" * 32, "title", "*", "session.title",
]  # fmt: skip
INTEGERS = [0, 1, -1, 2, 7, 30, 31, 1000, 1001, 2**31 - 1, -(2**31)]
LONG_INTEGERS = [*INTEGERS, 2**63 - 1, -(2**63)]
DOUBLES = [0.0, 0.5, -1.0, 1e308, -1e308, float("nan"), float("inf"), float("-inf"), 5e-324]
MAX_DEPTH = 4


class Dice:
    """Makes messages, the same ones for the same seed.

    The stubs give a field two types, of the C and of the Python implementation: hence Any.
    """

    def __init__(self, seed: int, known: dict[str, Any]) -> None:
        self.random = random.Random(seed)
        self._known = known

    def request(self, rpc: str) -> Message | bytes:
        kind = self.random.random()
        if kind < 0.05:
            return self.random.randbytes(self.random.choice([1, 3, 20, 500]))
        message = GetMessageClass(filled.RPCS[rpc].input_type)()
        self._fill(message, 0)
        if kind < 0.051:
            # Five megabytes in field 15, which no message of ours has.
            return message.SerializeToString() + b"\x7a" + b"\x80\x80\xc0\x02" + b"x" * (5 * 2**20)
        if kind < 0.08:
            body = bytearray(message.SerializeToString() or b"\0")
            body[self.random.randrange(len(body))] ^= 1 << self.random.randrange(8)
            return bytes(body)
        return message

    def _fill(self, message: Message, depth: int) -> None:
        for field in message.DESCRIPTOR.fields:
            if self.random.random() < 0.2:
                continue
            if field.is_repeated:
                self._fill_many(message, field, depth)
            elif field.message_type is not None:
                if depth < MAX_DEPTH:
                    getattr(message, field.name).SetInParent()
                    self._fill(getattr(message, field.name), depth + 1)
            else:
                setattr(message, field.name, self._value(field))

    def _fill_many(self, message: Message, field: Any, depth: int) -> None:
        many = getattr(message, field.name)
        count = self.random.choice([0, 1, 2, 2, 60])
        if field.message_type is None:
            many.extend(self._value(field) for _ in range(count))
        elif field.message_type.GetOptions().map_entry:
            for _ in range(count if depth < MAX_DEPTH else 0):
                key = self.random.choice([*STRINGS[:8], "pose", "metrics", "findings", "report"])
                self._fill(many[key], depth + 1)
        elif depth < MAX_DEPTH:
            for _ in range(min(count, 3)):
                self._fill(many.add(), depth + 1)

    def _value(self, field: Any) -> Any:
        if field.name in self._known and self.random.random() < 0.7:
            return self.random.choice(self._known[field.name])
        match field.cpp_type:
            case FieldDescriptor.CPPTYPE_STRING:
                return self.random.choice(STRINGS)
            case FieldDescriptor.CPPTYPE_BOOL:
                return self.random.random() < 0.5
            case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
                return self.random.choice(DOUBLES)
            case FieldDescriptor.CPPTYPE_INT64:
                return self.random.choice(LONG_INTEGERS)
            case FieldDescriptor.CPPTYPE_ENUM:
                return self.random.choice([0, 1, 2, 3, 8, 99, -1])
            case _:
                return self.random.choice(INTEGERS)


@pytest.fixture(scope="module")
def database(postgres_server: Server) -> str:
    return postgres_server.clone()


@pytest.fixture(scope="module")
def program(database: str, laptop: Laptop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A `jobs` in which only calls change rows: nothing expires during the test."""
    env = laptop.env | IMPATIENT | {"CREASE_DATABASE_URL": database, "CREASE_LEASE_SECONDS": "86400"}
    env |= {"CREASE_SWEEP_SECONDS": "86400"}
    with running(Program("jobs", env, Path(tmp_path_factory.mktemp("fuzz"), "log"))) as started:
        yield started


def rows(connection: psycopg.Connection[Any]) -> list[Any]:
    """A digest of all rows, to compare after each request."""
    return connection.execute("""
        SELECT (SELECT md5(string_agg(t::text, '|' ORDER BY id)) FROM video_sessions t),
               (SELECT md5(string_agg(t::text, '|' ORDER BY id)) FROM players t),
               (SELECT md5(string_agg(t::text, '|' ORDER BY id)) FROM shares t),
               (SELECT md5(string_agg(t::text, '|' ORDER BY id)) FROM video_analysis_jobs t),
               (SELECT md5(string_agg(t::text, '|' ORDER BY job_id, launch_no)) FROM launches t),
               (SELECT count(*) FROM events)
    """).fetchall()


def attack(program: Program, laptop: Laptop, database: str, seed: int, count: int) -> Counter[str]:
    """Sends `count` requests; returns the number of each status code."""
    road = Road(program.endpoint, laptop)
    launch, secret = road.started()
    pod = laptop.pod(f"analysis-{launch.job_id}-{launch.launch_no}-aaaaa", "pod-1")
    spoilt = laptop.person()[0][1][:-4] + "AAAA"
    callers = [
        (), road.coach, laptop.person("coach-2"), laptop.person("root", role="superuser"), road.upload,
        laptop.program("upload"), road.controller, pod, lease(secret), lease("x" * 5000), lease("wrong"),
        (("authorization", spoilt),), (("authorization", "Bearer " + "e30." * 3),), (("authorization", "Basic eA=="),),
        (*laptop.program("upload"), ("crease-user", "a.b.c")),
        (("authorization", "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0."),),
    ]  # fmt: skip
    rightful = {"person": road.coach, "upload": road.upload, "controller": road.controller, "pod": pod}
    rightful |= {"lease": lease(secret), "service:events": laptop.service("listener")}
    callers += [laptop.service("reader"), laptop.service("club", "org:o-1"), laptop.service(on_behalf_of="x" * 3000)]
    known = {"job_id": [launch.job_id], "session_id": [launch.session_id], "launch_no": [1], "cluster": ["c1"]}
    known |= {"lease": [secret], "job_ids": [launch.job_id, road.created()]}
    dice = Dice(seed, known)
    seen: Counter[str] = Counter()
    with grpc.insecure_channel(program.endpoint) as channel, psycopg.connect(database, autocommit=True) as connection:
        before = rows(connection)
        for number in range(count):
            rpc = dice.random.choice(UNARY)
            method = filled.RPCS[rpc]
            kinds = sorted(authorization.TABLE[f"/{method.containing_service.full_name}/{method.name}"])
            caller = dice.random.choice([rightful[kinds[0]]] * len(callers) + callers)
            request = dice.request(rpc)
            code = filled.send(channel, rpc, request, caller)
            assert code in ANSWERS, (seed, number, rpc, code, str(request)[:2000], program.log.read_text()[-3000:])
            seen[code] += 1
            after = rows(connection)
            assert code == "OK" or after == before, (seed, number, rpc, code, str(request)[:2000])
            before = after
    assert road.status(road.created()) == "awaiting_upload"
    return seen


def test_hostile_requests_are_answered_and_change_nothing_when_refused(
    program: Program, laptop: Laptop, database: str
) -> None:
    """Five hundred requests, the same in every run; the server keeps running."""
    seen = attack(program, laptop, database, seed=7, count=500)
    assert {"OK", "INVALID_ARGUMENT", "UNAUTHENTICATED", "PERMISSION_DENIED"} <= seen.keys()


@pytest.mark.slow
def test_ten_thousand_hostile_requests_are_answered(program: Program, laptop: Laptop, database: str) -> None:
    """In twenty attacks; a failure names its seed."""
    total: Counter[str] = Counter()
    for seed in range(20):
        total += attack(program, laptop, database, seed, 500)
    assert ANSWERS - {"ALREADY_EXISTS"} <= total.keys()


def test_a_message_too_large_is_refused_before_it_is_read(program: Program, laptop: Laptop) -> None:
    """RESOURCE_EXHAUSTED without a token; for each service's first RPC, because the limit is the server's."""
    first = {rpc.partition("/")[0]: rpc for rpc in reversed(UNARY)}
    with grpc.insecure_channel(program.endpoint) as channel:
        for rpc in first.values():
            assert filled.send(channel, rpc, b"\x00" * (5 * 2**20), ()) == "RESOURCE_EXHAUSTED"
