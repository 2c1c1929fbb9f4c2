"""Attacks on the keys of an issuer: empty answers, an endpoint that hangs, unsigned tokens with unknown key ids."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from services import auth, errors
from services.callers import issuer_keys
from services.settings import Issuer
from testing.metrics import scrape, value
from testing.servers.identity_provider import IdentityProvider, identity_provider
from testing.servers.programs import Laptop, Program, free_port, running
from tests.security.test_tokens import Sessions, env

USELESS = ['{"keys": []}', "{}", "[]", "null", "", "<html>", '{"keys": [{"kty": "oct", "k": "AA"}]}', '{"keys": 5}']


@pytest.fixture
def provider() -> Iterator[IdentityProvider]:
    with identity_provider("https://north.example") as made:
        yield made


@pytest.fixture
def verifier(provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch) -> auth.Verifier:
    """Its keys are always old, and no verified token is cached."""
    monkeypatch.setattr(issuer_keys, "REFRESH_SECONDS", -1.0)
    monkeypatch.setattr(issuer_keys, "RETRY_SECONDS", -1.0)
    monkeypatch.setattr(auth, "TOKEN_CACHE_SECONDS", -1.0)
    return auth.Verifier([Issuer.model_validate(provider.entry())], "crease", 60.0)


async def fetched(provider: IdentityProvider, verifier: auth.Verifier) -> None:
    """Returns after one more fetch, which began after this call."""
    before = provider.requests
    [keys] = verifier._keys.values()
    while provider.requests == before or keys._fetch is not None:
        await keys._fetched(1.0)


@pytest.mark.parametrize("useless", USELESS)
async def test_an_answer_without_usable_keys_withdraws_no_key(
    useless: str, provider: IdentityProvider, verifier: auth.Verifier
) -> None:
    """The last good keys stay valid; before any good answer the call is UNAVAILABLE, not the token's fault."""
    provider.answer = useless
    with pytest.raises(errors.Unavailable, match="could not be fetched"):
        await verifier.verify(provider.sign())
    provider.answer = None
    await verifier.verify(provider.sign())
    provider.answer = useless
    await fetched(provider, verifier)
    assert isinstance(await verifier.verify(provider.sign()), auth.Person)


async def test_the_last_keys_end_after_the_configured_time(
    provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then they are valid; after it the call is UNAVAILABLE."""
    monkeypatch.setattr(auth, "TOKEN_CACHE_SECONDS", -1.0)
    verifier = auth.Verifier([Issuer.model_validate(provider.entry())], "crease", keys_seconds=0.1)
    await verifier.verify(provider.sign())
    provider.answer = USELESS[0]
    await asyncio.sleep(0.2)
    with pytest.raises(errors.Unavailable):
        await verifier.verify(provider.sign())


async def test_a_good_answer_withdraws_a_key(provider: IdentityProvider, verifier: auth.Verifier) -> None:
    """An old cache is fetched before it is used, without a restart."""
    old = provider.sign()
    await verifier.verify(old)
    provider.rotate()
    with pytest.raises(errors.Unauthenticated, match="key id"):
        await verifier.verify(old)


async def test_a_rotated_key_is_found_without_a_restart(provider: IdentityProvider, verifier: auth.Verifier) -> None:
    """The first token with the new key is accepted."""
    await verifier.verify(provider.sign())
    provider.rotate()
    assert isinstance(await verifier.verify(provider.sign()), auth.Person)


def test_unknown_key_ids_delay_no_valid_caller_while_the_endpoint_hangs(
    jobs_env: dict[str, str], laptop: Laptop, provider: IdentityProvider, tmp_path: Path
) -> None:
    """Sixteen forged tokens at once: they are refused and counted, one fetch is in flight, valid calls succeed."""
    port = free_port()
    settings = env(jobs_env, laptop, provider.entry()) | {"CREASE_METRICS_LISTEN": f"127.0.0.1:{port}"}
    with running(Program("jobs", settings, tmp_path / "log")) as jobs, grpc.insecure_channel(jobs.endpoint) as channel:
        sessions = Sessions(channel)
        sessions.create(provider.metadata())
        provider.is_hanging = True
        asked = provider.requests
        forged = [provider.metadata(key_id=f"forged-{number}") for number in range(16)]
        with ThreadPoolExecutor(16) as pool:
            attack = pool.map(sessions.refusal, forged)
            began = time.monotonic()
            # A new token each time: none of them is cached.
            for number in range(20):
                sessions.ids(provider.metadata(sub=f"coach-{number}"))
            seconds = time.monotonic() - began
            assert all("key id" in refusal for refusal in attack)
        # Each fetch takes 5 s to fail: the valid calls have not waited for sixteen of them.
        assert seconds < 6 * issuer_keys.FETCH_SECONDS
        # The first fetch is too recent for another one.
        assert provider.requests - asked <= 1
        counted = value(scrape(port), "crease_issuer_key_faults_total", kind="unknown_key")
    assert counted == len(forged)
