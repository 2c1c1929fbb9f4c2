"""Identity providers for tests: each signs any claims, and publishes its keys as well or as badly as a test wants."""

import http.server
import json
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from services.naming import COACH_PRO_PLUS, UPLOAD_FEATURE


@dataclass
class IdentityProvider:
    """`answer`: what is published instead of the keys. `is_hanging`: requests for the keys get no answer."""

    issuer: str
    port: int = 0
    answer: str | None = None
    is_hanging: bool = False
    requests: int = 0
    _key_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    _key: Any = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    _stopped: threading.Event = field(default_factory=threading.Event)

    @property
    def jwks_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/jwks.json"

    def entry(self, **settings: Any) -> dict[str, Any]:
        """The provider in CREASE_ISSUERS."""
        return {"kind": "people", "issuer": self.issuer, "jwks_url": self.jwks_url} | settings

    def rotate(self) -> None:
        """Replaces the key."""
        self._key_id, self._key = uuid.uuid4().hex, ec.generate_private_key(ec.SECP256R1())

    def sign(self, *, key_id: str = "", seconds: float = 3600, **claims: Any) -> str:
        """A coach's token, with these claims instead of the usual ones."""
        usual = {"iss": self.issuer, "aud": "crease", "exp": int(time.time() + seconds), "sub": "coach-1"}
        usual |= {"role": COACH_PRO_PLUS, "features": [UPLOAD_FEATURE]}
        return jwt.encode(usual | claims, self._key, algorithm="ES256", headers={"kid": key_id or self._key_id})

    def metadata(self, **claims: Any) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.sign(**claims)}"),)

    def jwks(self) -> str:
        """The keys, as published."""
        if self.answer is not None:
            return self.answer
        public = ECAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        return json.dumps({"keys": [public | {"kid": self._key_id, "alg": "ES256", "use": "sig"}]})


@contextmanager
def identity_provider(issuer: str) -> Iterator[IdentityProvider]:
    """A provider that serves its keys by HTTP, until the block ends."""
    provider = IdentityProvider(issuer)

    class Keys(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            provider.requests += 1
            if provider.is_hanging:
                provider._stopped.wait()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(provider.jwks().encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Keys) as server:
        server.daemon_threads = True
        provider.port = server.server_port
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield provider
        finally:
            provider._stopped.set()
            server.shutdown()
