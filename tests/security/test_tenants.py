"""Attacks of one tenant on another: every RPC of jobs and upload, with the other's ids, page tokens and request ids."""

import hashlib
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from crease.jobs.v1 import player_pb2, session_pb2, share_pb2
from crease.jobs.v1.player_pb2_grpc import PlayerServiceStub
from crease.jobs.v1.share_pb2_grpc import ShareServiceStub
from crease_client.calls import ON_BEHALF_OF
from services import dev_issuer
from services.jobs.__main__ import SERVICES as OF_JOBS
from services.upload.__main__ import SERVICES as OF_UPLOAD
from testing.fakes.analysis import FINDING, analysed
from testing.servers.identity_provider import IdentityProvider, identity_provider
from testing.servers.product import BUCKET, Product, product
from testing.servers.programs import SERVICES, Laptop
from testing.servers.s3 import Endpoint, ministack
from tests.integration.jobs import filled

SOUTH = "https://south.example"
TITLE, PLAYER = "Quillfeather in the nets", "Bartholomew Quillfeather"
# The keys of the coach's objects in S3, and a presigned address.
KEYS, SIGNED = "coach_plus/coach/coach-1/", "X-Amz-Signature"
# In no answer to another tenant.
SECRETS = (TITLE, PLAYER, str(FINDING["title"]), KEYS, SIGNED)
# Calls that change nothing begin with these.
READING = ("Get", "List", "Search", "Sign", "Compare", "Explain")
# A stream without news is left after this.
STREAM_SECONDS = 2
CALL_SECONDS = 60


ROWS = """
    SELECT t::text FROM video_sessions t WHERE owner_type = 'coach' AND owner_id = 'coach-1'
    UNION ALL SELECT t::text FROM video_analysis_jobs t WHERE owner = 'coach/coach-1'
    UNION ALL SELECT t::text FROM players t WHERE owner_type = 'coach' AND owner_id = 'coach-1'
    UNION ALL SELECT t::text FROM shares t WHERE owner_type = 'coach' AND owner_id = 'coach-1'
    ORDER BY 1
"""


@dataclass(frozen=True)
class Scene:
    """The product with two issuers, and what a coach of one of them has there."""

    product: Product
    database_url: str
    s3: Endpoint
    south: IdentityProvider
    values: dict[str, Any]

    def attackers(self) -> dict[str, Any]:
        """People with the coach's subject and organisation at another issuer, others, and services of other owners."""
        laptop, foreign = self.product.laptop, self.south.metadata
        on_behalf = ((ON_BEHALF_OF, "coach:coach-1"),)
        return {
            "the same subject": foreign(),
            "the same subject and organisation": foreign(role="org_pro", org_id="coach-1"),
            "another coach": laptop.person("coach-2"),
            "an organisation of the coach's name": laptop.person("boss", role="org_pro", organisation_id="coach-1"),
            "a person for the coach": laptop.person("coach-2") + on_behalf,
            "a service of another owner": laptop.service("club"),
            "that service for the coach": laptop.service("club", on_behalf_of="coach:coach-1"),
            "a service for another owner": laptop.service(on_behalf_of="coach:coach-2"),
        }

    def fingerprint(self) -> str:
        """A digest of the coach's rows and objects."""
        digest = hashlib.sha256()
        with psycopg.connect(self.database_url) as connection:
            for (row,) in connection.execute(ROWS).fetchall():
                digest.update(row.encode())
        for found in self.s3.client().list_objects_v2(Bucket=BUCKET, Prefix="coach_plus/coach/coach-1/")["Contents"]:
            digest.update(f"{found['Key']} {found['ETag']}".encode())
        return digest.hexdigest()


@pytest.fixture
def scene(database_url: str, jobs_env: dict[str, str], laptop: Laptop, tmp_path: Path) -> Iterator[Scene]:
    with identity_provider(SOUTH) as south, ministack(tmp_path / "s3") as s3:
        s3.make_bucket(BUCKET)
        people, *others = dev_issuer.issuers(laptop.folder, SERVICES)
        trusted = [people | {"owner_prefix": ""}, *others, south.entry(owner_prefix="south/")]
        issuers = {"CREASE_ISSUERS": json.dumps(trusted)}
        with product(
            tmp_path, jobs_env | issuers, laptop, s3, controlled=False, upload_settings=issuers
        ) as made, grpc.insecure_channel(made.jobs.endpoint) as to_jobs:  # fmt: skip
            yield Scene(made, database_url, s3, south, coaches_values(made, to_jobs))


def coaches_values(made: Product, to_jobs: grpc.Channel) -> dict[str, Any]:
    """What the coach has: two analyses of a player, and a share; as values of requests."""
    request_id = str(uuid.uuid4())
    asked = player_pb2.CreatePlayerRequest(name=PLAYER, request_id=request_id)
    player = PlayerServiceStub(to_jobs).CreatePlayer(asked, metadata=made.coach)
    first, second = (analysed(made, TITLE, [player.player_id]) for _ in range(2))
    share = share_pb2.CreateShareRequest(
        job_ids=[first.job_id], with_names=True, valid_for=Duration(seconds=3600), request_id=request_id
    )
    shared = ShareServiceStub(to_jobs).CreateShare(share, metadata=made.coach)
    repeated = session_pb2.CreateSessionRequest(title=TITLE, request_id=request_id)
    made.session_stub.CreateSession(repeated, metadata=made.coach)
    return {
        "job_id": first.job_id,
        "job_ids": [first.job_id, second.job_id],
        "session_id": first.session_id,
        "player_id": player.player_id,
        "player_ids": [player.player_id],
        "share_id": shared.share.share_id,
        "id_prefix": first.job_id[:8],
        "request_id": request_id,
        "owner": "coach:coach-1",
        "after": "0-0",
        "title": "t",
        "content_type": "video/mp4",
        "content_length": 10,
        "s3_bucket": BUCKET,
        "etag": "abc",
        "sample_fps": 5,
    }


def requests(rpc: MethodDescriptor, values: dict[str, Any]) -> list[Message]:
    """A request with all of the coach's values, one without ids, and one for each artifact's name."""
    variants: list[dict[str, Any]] = [values, {name: values[name] for name in ("title", "after", "content_type")}]
    variants += [values | {"name": name} for name in ("overlay.mp4", "report.html")]
    variants += [{"text": "Quillfeather"}, {"name_prefix": "Barth"}, {"id_prefix": values["id_prefix"]}]
    made: dict[bytes, Message] = {}
    for variant in variants:
        message = GetMessageClass(rpc.input_type)()
        filled.fill(message, variant)
        made[message.SerializeToString(deterministic=True)] = message
    return list(made.values())


def answer(channel: grpc.Channel, rpc: MethodDescriptor, message: Message, metadata: Any) -> tuple[str, bytes]:
    """The status and the bytes of an answer, or of the first message of a stream."""
    path = f"/{rpc.containing_service.full_name}/{rpc.name}"
    try:
        if not rpc.server_streaming:
            call: Any = channel.unary_unary(path, type(message).SerializeToString)
            return "OK", call(message, metadata=metadata, timeout=CALL_SECONDS)
        opened: Any = channel.unary_stream(path, type(message).SerializeToString)
        stream = opened(message, metadata=metadata, timeout=STREAM_SECONDS)
        try:
            return "OK", next(stream, b"")
        finally:
            stream.cancel()
    except grpc.RpcError as error:
        return error.code().name, str(error.details()).encode()


def page_token(channel: grpc.Channel, rpc: MethodDescriptor, metadata: Any) -> str:
    """The token of the coach's second page; empty where the RPC has no pages, or there is one alone."""
    if "next_page_token" not in rpc.output_type.fields_by_name:
        return ""
    status, reply = answer(channel, rpc, GetMessageClass(rpc.input_type)(page_size=1), metadata)
    page: Any = GetMessageClass(rpc.output_type)()
    page.ParseFromString(reply if status == "OK" else b"")
    return str(page.next_page_token)


def with_token(rpc: MethodDescriptor, token: str) -> Message:
    return GetMessageClass(rpc.input_type)(page_size=1, page_token=token)


def found(channel: grpc.Channel, rpc: MethodDescriptor, message: Message, metadata: Any) -> set[str]:
    """The secrets in an answer."""
    _, reply = answer(channel, rpc, message, metadata)
    return {secret for secret in SECRETS if secret.encode() in reply}


@pytest.mark.slow
@pytest.mark.parametrize("program", ["jobs", "upload"])
def test_no_call_with_another_tenants_ids_reads_or_changes_anything(scene: Scene, program: str) -> None:
    """Also with equal subjects and organisations of two issuers, and with the coach's page tokens and request ids.

    The coach's own calls show that the attacks are real: they read each of these texts.
    """
    endpoint, services = {
        "jobs": (scene.product.jobs.endpoint, OF_JOBS),
        "upload": (scene.product.upload.endpoint, OF_UPLOAD),
    }[program]
    leaked: dict[str, str] = {}
    changed: set[str] = set()
    read_by_coach: set[str] = set()
    before = scene.fingerprint()
    with grpc.insecure_channel(endpoint) as channel:
        for rpc in (method for service in services for method in service.methods):
            sent = requests(rpc, scene.values)[: 2 if rpc.server_streaming else None]
            if token := page_token(channel, rpc, scene.product.coach):
                sent += [with_token(rpc, token)]
            for attacker, metadata in scene.attackers().items():
                for message in sent:
                    if secrets := found(channel, rpc, message, metadata):
                        leaked[rpc.full_name] = f"{attacker} reads {secrets} by {message}"
            if scene.fingerprint() != before:
                changed.add(rpc.full_name)
                before = scene.fingerprint()
            if rpc.name.startswith(READING):
                for message in sent:
                    read_by_coach |= found(channel, rpc, message, scene.product.coach)
    assert (leaked, changed) == ({}, set())
    assert read_by_coach == (set(SECRETS) - {SIGNED} if program == "jobs" else {KEYS, SIGNED})
