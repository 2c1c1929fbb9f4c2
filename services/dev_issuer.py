"""The laptop's token issuer. A laptop skips no authentication: it issues its own tokens.

A folder holds the private key (`key.pem`, mode 0600) and the public one (`jwks.json`). The claims are those of the real
issuers: an identity provider for people, an issuer for services, a Kubernetes API server for programs and pods.
"""

import json
import os
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from services.naming import COACH_PRO_PLUS, UPLOAD_FEATURE

ISSUER = "crease-laptop"
NAMESPACE = "laptop"
KEY_ID = "laptop"
# The laptop's internal service, which may do all that services can, for every owner.
SERVICE = "laptop"
EVERYTHING = {"may": ["read", "write", "events"], "owners": ["*"]}


def create(folder: Path) -> None:
    """Makes the key pair, unless the folder has one."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if (folder / "jwks.json").exists():
        return
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    with open(os.open(folder / "key.pem", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(pem)
    public = ECAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": KEY_ID, "alg": "ES256", "use": "sig"}
    (folder / "jwks.json").write_text(json.dumps({"keys": [public]}))


def issuers(folder: Path, services: Mapping[str, Mapping[str, Any]] | None = None) -> list[dict[str, Any]]:
    """The value of CREASE_ISSUERS that trusts this issuer: one entry each for people, programs and services.

    services: what each service may, by its name; None: one, SERVICE, may everything.
    """
    jwks_url = (folder.resolve() / "jwks.json").as_uri()
    listed = {SERVICE: EVERYTHING} if services is None else services
    grants = {name: {"name": name, **grant} for name, grant in listed.items()}
    subjects = {_account(program): program for program in ("upload", "controller", "analyzer")}
    return [
        {"kind": "people", "issuer": f"{ISSUER}/people", "jwks_url": jwks_url},
        {"kind": "cluster", "issuer": f"{ISSUER}/cluster", "jwks_url": jwks_url, "subjects": subjects},
        {"kind": "service", "issuer": f"{ISSUER}/service", "jwks_url": jwks_url, "services": grants},
    ]


def person(
    folder: Path,
    subject: str,
    *,
    role: str = COACH_PRO_PLUS,
    organisation_id: str = "",
    features: tuple[str, ...] = (UPLOAD_FEATURE,),
    seconds: float = 30 * 86400,
) -> str:
    """A person's token."""
    claims = {"sub": subject, "role": role, "org_id": organisation_id, "features": list(features)}
    return _sign(folder, f"{ISSUER}/people", claims, seconds)


def service(folder: Path, name: str = SERVICE, *, seconds: float = 30 * 86400) -> str:
    """An internal service's token."""
    return _sign(folder, f"{ISSUER}/service", {"sub": name}, seconds)


def program(folder: Path, name: str, *, seconds: float = 30 * 86400) -> str:
    """The token of `upload` or `controller`."""
    return _sign(folder, f"{ISSUER}/cluster", {"sub": _account(name)}, seconds)


def pod(folder: Path, name: str, *, uid: str | None = None, seconds: float = 6 * 3600) -> str:
    """The token of one analyzer process, as Kubernetes projects it into a pod."""
    kubernetes = {"namespace": NAMESPACE, "pod": {"name": name, "uid": uid or str(uuid.uuid4())}}
    return _sign(folder, f"{ISSUER}/cluster", {"sub": _account("analyzer"), "kubernetes.io": kubernetes}, seconds)


def _account(program: str) -> str:
    return f"system:serviceaccount:{NAMESPACE}:{program}"


def _sign(folder: Path, issuer: str, claims: dict[str, Any], seconds: float) -> str:
    now = int(time.time())
    claims = {"iss": issuer, "aud": "crease", "iat": now, "exp": now + int(seconds)} | claims
    return jwt.encode(claims, (folder / "key.pem").read_text(), algorithm="ES256", headers={"kid": KEY_ID})
