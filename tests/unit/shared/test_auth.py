"""Authentication: which tokens are valid, and which caller each proves."""

import asyncio
import base64
import hmac
import http.server
import json
import ssl
import threading
import time
from pathlib import Path

import jwt
import pytest

from crease_client.calls import ON_BEHALF_OF
from services import auth, dev_issuer, errors
from services.settings import Issuer
from testing.servers import certificates


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    dev_issuer.create(tmp_path)
    return tmp_path


@pytest.fixture
def verifier(folder: Path) -> auth.Verifier:
    return auth.Verifier([Issuer.model_validate(entry) for entry in dev_issuer.issuers(folder)], "crease", 60.0)


async def test_a_persons_token_proves_a_person(folder: Path, verifier: auth.Verifier) -> None:
    """Subject, role, organisation and features come from the claims."""
    token = dev_issuer.person(folder, "coach-1", role="org_pro", organisation_id="o-1")
    caller = await verifier.caller({"authorization": f"Bearer {token}"})
    assert caller == auth.Person("coach-1", "org_pro", "o-1", frozenset({"video_upload_enabled"}))


async def test_a_pods_token_proves_a_pod(folder: Path, verifier: auth.Verifier) -> None:
    """The claims are those of a projected ServiceAccount token."""
    caller = await verifier.verify(dev_issuer.pod(folder, "analysis-x-1-abcde", uid="u-1"))
    assert caller == auth.Pod("analysis-x-1-abcde", "u-1", "laptop")


async def test_a_program_is_distinguished_from_a_person_by_its_issuer(folder: Path, verifier: auth.Verifier) -> None:
    """A person named like a ServiceAccount stays a person."""
    assert await verifier.verify(dev_issuer.program(folder, "upload")) == auth.Program("upload")
    person = await verifier.verify(dev_issuer.person(folder, "system:serviceaccount:laptop:upload"))
    assert isinstance(person, auth.Person)


async def test_a_lease_is_a_caller_of_its_own_and_hides_in_logs(verifier: auth.Verifier) -> None:
    """Its secret never shows in a repr."""
    caller = await verifier.caller({"authorization": "Lease s3cret"})
    assert caller == auth.Lease("s3cret")
    assert "s3cret" not in repr(caller)


async def test_a_call_without_a_header_has_no_caller(verifier: auth.Verifier) -> None:
    """It is no error yet: authorization decides."""
    assert await verifier.caller({}) is None


def _forged(header: dict[str, str], claims: dict[str, object], key: bytes = b"") -> str:
    """A token assembled by hand: libraries refuse to make one."""

    def encode(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    body = ".".join(encode(json.dumps(part).encode()) for part in (header | {"kid": "laptop"}, claims))
    return f"{body}.{encode(hmac.digest(key, body.encode(), 'sha256')) if key else ''}"


async def test_forged_tokens_are_refused(folder: Path, verifier: auth.Verifier) -> None:
    """`none`, HMAC with the public key, other keys, issuers and audiences, expired, cut, absurd."""
    claims = jwt.decode(dev_issuer.person(folder, "coach-1"), options={"verify_signature": False})
    good = dev_issuer.person(folder, "coach-1")
    public = (folder / "jwks.json").read_text()
    stranger = folder / "stranger"
    dev_issuer.create(stranger)
    private = (folder / "key.pem").read_text()

    def signed(**other: object) -> str:
        return jwt.encode(claims | other, private, algorithm="ES256", headers={"kid": "laptop"})

    forged = [
        _forged({"alg": "none"}, claims),
        _forged({"alg": "HS256"}, claims, public.encode()),
        dev_issuer.person(stranger, "coach-1"),
        signed(iss="https://elsewhere"),
        signed(aud="other"),
        signed(exp=int(time.time()) - 3600),
        jwt.encode(claims, private, algorithm="ES256", headers={"kid": "unknown"}),
        good[:-4],
        "x" * 100_000,
        "",
    ]
    for token in forged:
        with pytest.raises(errors.Unauthenticated):
            await verifier.verify(token)


async def test_an_api_server_s_keys_are_fetched_with_a_token_and_its_own_authority(folder: Path) -> None:
    """As in Kubernetes: its certificate has a private authority, and it answers only with a token."""
    shown: list[str] = []

    class Keys(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            shown.append(self.headers.get("authorization", ""))
            self.send_response(200 if shown[-1] == "Bearer pod-token" else 401)
            self.end_headers()
            self.wfile.write((folder / "jwks.json").read_bytes())

        def log_message(self, *_: object) -> None:
            pass

    certificate, key = certificates.make(folder)
    (folder / "pod-token").write_text("pod-token\n")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Keys) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        people = dev_issuer.issuers(folder)[0] | {"jwks_url": f"https://localhost:{server.server_port}/keys"}
        trusted = {"jwks_ca_file": certificate, "jwks_token_file": folder / "pod-token"}
        token = dev_issuer.person(folder, "coach-1")
        try:
            with pytest.raises(errors.Unavailable, match="certificate"):
                await auth.Verifier([Issuer.model_validate(people)], "crease", 60.0).verify(token)
            verifier = auth.Verifier([Issuer.model_validate(people | trusted)], "crease", 60.0)
            assert isinstance(await verifier.verify(token), auth.Person)
        finally:
            server.shutdown()
            thread.join()
    assert shown == ["Bearer pod-token"]


async def test_concurrent_calls_during_a_key_fetch_all_succeed(folder: Path, verifier: auth.Verifier) -> None:
    """They share one fetch."""
    token = dev_issuer.person(folder, "coach-1")
    callers = await asyncio.gather(*(verifier.verify(token) for _ in range(20)))
    assert {type(caller) for caller in callers} == {auth.Person}


async def test_an_issuer_that_was_unavailable_is_retried_at_once(folder: Path, verifier: auth.Verifier) -> None:
    """A failed fetch fails its own call, not the next ones."""
    keys = (folder / "jwks.json").rename(folder / "moved.json")
    token = dev_issuer.person(folder, "coach-1")
    with pytest.raises(errors.Unavailable, match="could not be fetched"):
        await verifier.verify(token)
    keys.rename(folder / "jwks.json")
    assert isinstance(await verifier.verify(token), auth.Person)


async def test_a_verified_token_is_cached_until_it_expires(
    folder: Path, verifier: auth.Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checking a signature costs more than a call; the cache never outlives the token."""
    token = dev_issuer.person(folder, "coach-1")
    first = await verifier.verify(token)
    assert await verifier.verify(token) is first
    brief = dev_issuer.person(folder, "coach-1", seconds=5)
    await verifier.verify(brief)
    ends = jwt.decode(brief, options={"verify_signature": False})["exp"]
    assert verifier._verified[brief].until <= ends


async def test_a_service_s_token_proves_the_service_that_the_settings_list(folder: Path) -> None:
    """Its name and rights come from the settings, never from a claim; a subject that is not listed is refused."""
    grants = {"statistics": {"may": ["read", "events"], "owners": ["org:o-1"]}}
    listed = [Issuer.model_validate(entry) for entry in dev_issuer.issuers(folder, grants)]
    verifier = auth.Verifier(listed, "crease", 60.0)
    seen = await verifier.verify(dev_issuer.service(folder, "statistics"))
    assert seen == auth.Service("statistics", frozenset({"read", "events"}), frozenset({"org:o-1"}))
    with pytest.raises(errors.Unauthenticated, match="The subject other is not configured"):
        await verifier.verify(dev_issuer.service(folder, "other"))


async def test_a_service_account_of_the_cluster_s_issuer_may_be_a_service(folder: Path) -> None:
    """A service in the cluster calls with its own ServiceAccount, whose issuer is that of the programs."""
    [_, cluster, service] = dev_issuer.issuers(folder, {"statistics": dev_issuer.EVERYTHING})
    issuer = Issuer.model_validate(cluster | {"services": service["services"], "issuer": service["issuer"]})
    assert issuer.kind == "cluster"
    seen = await auth.Verifier([issuer], "crease", 60.0).verify(dev_issuer.service(folder, "statistics"))
    assert seen == auth.Service("statistics", frozenset({"read", "write", "events"}))


@pytest.mark.parametrize(
    ("owners", "named", "refusal"),
    [
        (None, "coach:c-1", None),
        (frozenset({"coach:c-1"}), "coach:c-1", None),
        (frozenset({"coach:c-1"}), "coach:c-2", errors.PermissionDenied),
        (frozenset({"coach:c-1"}), "org:c-1", errors.PermissionDenied),
        (None, "c-1", errors.InvalidArgument),
        (None, "coach:", errors.InvalidArgument),
        (None, "coach:" + "x" * 256, errors.InvalidArgument),
    ],
)
def test_a_service_acts_for_its_own_owners_alone(
    owners: frozenset[str] | None, named: str, refusal: type[errors.ServiceError] | None
) -> None:
    """The settings list them."""
    service = auth.Service("statistics", frozenset({"read"}), owners)
    if refusal is None:
        acting = auth.act_on_behalf(service, {ON_BEHALF_OF: named})
        assert acting == auth.Service("statistics", frozenset({"read"}), owners, named)
    else:
        with pytest.raises(refusal):
            auth.act_on_behalf(service, {ON_BEHALF_OF: named})


@pytest.mark.parametrize("caller", [auth.Person("root", "superuser"), auth.Pod("p", "u", "n"), auth.Lease("s")])
def test_no_other_caller_acts_on_behalf_of_anyone(caller: auth.Caller) -> None:
    """A superuser neither: rows would not say who acted."""
    with pytest.raises(errors.PermissionDenied, match="Only a service"):
        auth.act_on_behalf(caller, {ON_BEHALF_OF: "coach:c-1"})
    assert auth.act_on_behalf(caller, {}) is caller


async def test_no_person_is_named_as_rows_name_services(folder: Path, verifier: auth.Verifier) -> None:
    """created_by and acted_by tell both apart."""
    with pytest.raises(errors.Unauthenticated, match="sub"):
        await verifier.verify(dev_issuer.person(folder, "service:everything for coach:coach-1"))
