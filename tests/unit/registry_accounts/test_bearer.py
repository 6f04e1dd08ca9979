"""Bearer tokens: one algorithm, one key, and nothing that a token says of itself chooses either."""

import base64
import hashlib
import hmac
import json
import os
import stat
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from wherry.errors import InvalidArgument, Unauthorized
from wherry.registry.accounts.bearer import SERVICE, Bearer, Claims, load_key

ALICE = Claims("alice", 7, 3, 0, {"alice/app": frozenset(("pull", "push"))}, 0)


def _segment(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def _payload(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    access = [{"type": "repository", "name": "alice/app", "actions": ["pull"]}]
    payload = {"iss": SERVICE, "aud": SERVICE, "sub": "alice", "uid": 7, "gen": 3, "rid": 0, "access": access}
    return payload | {"iat": now, "nbf": now, "exp": now + 60} | changes


@pytest.fixture(scope="module")
def key() -> Ed25519PrivateKey:
    """A signing key."""
    return Ed25519PrivateKey.generate()


def test_says_what_was_signed(key: Ed25519PrivateKey) -> None:
    """A token of ours is read as it was made, with the time at which it ends."""
    bearer = Bearer(key, 120)
    claims = bearer.read(bearer.make(ALICE))
    assert (claims.name, claims.account, claims.serial, claims.access) == ("alice", 7, 3, ALICE.access)
    assert 100 < claims.expires - time.time() <= 120


def _forged(key: Ed25519PrivateKey) -> dict[str, str]:
    public = key.public_key()
    raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    other = Ed25519PrivateKey.generate()
    other_jwk = {
        "kty": "OKP",
        "crv": "Ed25519",
        "x": base64.urlsafe_b64encode(
            other.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        )
        .rstrip(b"=")
        .decode(),
    }

    def by_hmac(secret: bytes, algorithm: str = "HS256") -> str:
        body = f"{_segment({'alg': algorithm, 'typ': 'JWT'})}.{_segment(_payload())}"
        signature = hmac.digest(secret, body.encode(), hashlib.sha256)
        return f"{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"

    def mine(**headers: Any) -> str:
        return jwt.encode(_payload(), other, algorithm="EdDSA", headers=headers)

    good = jwt.encode(_payload(), key, algorithm="EdDSA")
    head, body, signature = good.split(".")
    return {
        "none": f"{_segment({'alg': 'none', 'typ': 'JWT'})}.{_segment(_payload())}.",
        "None": f"{_segment({'alg': 'None', 'typ': 'JWT'})}.{_segment(_payload())}.{signature}",
        "no signature": f"{head}.{body}.",
        "no algorithm": f"{_segment({'typ': 'JWT'})}.{body}.{signature}",
        "hmac with the public key, raw": by_hmac(raw),
        "hmac with the public key, pem": by_hmac(pem),
        "hmac called EdDSA": by_hmac(raw, "EdDSA"),
        "es256": jwt.encode(_payload(), ec.generate_private_key(ec.SECP256R1()), algorithm="ES256"),
        "rs256": jwt.encode(_payload(), rsa.generate_private_key(65537, 2048), algorithm="RS256"),
        "another key": mine(),
        "another key, jwk": mine(jwk=other_jwk),
        "another key, jku": mine(jku="http://127.0.0.1:1/keys"),
        "another key, x5u": mine(x5u="http://127.0.0.1:1/cert"),
        "another key, x5c": mine(x5c=["MIIB"]),
        "another key, kid": mine(kid="../../../../dev/null"),
        "our key, kid": jwt.encode(_payload(), key, algorithm="EdDSA", headers={"kid": "1"}),
        "our key, crit": jwt.encode(_payload(), key, algorithm="EdDSA", headers={"crit": ["b64"], "b64": False}),
        "changed body": f"{head}.{_segment(_payload(sub='root', uid=1))}.{signature}",
        "expired": jwt.encode(_payload(exp=int(time.time()) - 1), key, algorithm="EdDSA"),
        "not yet": jwt.encode(_payload(nbf=int(time.time()) + 600), key, algorithm="EdDSA"),
        "another audience": jwt.encode(_payload(aud="elsewhere"), key, algorithm="EdDSA"),
        "another issuer": jwt.encode(_payload(iss="elsewhere"), key, algorithm="EdDSA"),
        "no audience": jwt.encode({k: v for k, v in _payload().items() if k != "aud"}, key, algorithm="EdDSA"),
        "no end": jwt.encode({k: v for k, v in _payload().items() if k != "exp"}, key, algorithm="EdDSA"),
        "access of another shape": jwt.encode(_payload(access="all"), key, algorithm="EdDSA"),
        "account of another type": jwt.encode(_payload(uid="7"), key, algorithm="EdDSA"),
        "too long": good + "A" * 20000,
        "four parts": f"{good}.x",
        "empty": "",
        "not ascii": "é" * 40,
    }


FORGERIES = list(_forged(Ed25519PrivateKey.generate()))


@pytest.mark.parametrize("name", FORGERIES)
def test_cve_2025_24976_forged_tokens_are_refused(name: str, key: Ed25519PrivateKey) -> None:
    """Every forgery is refused: other algorithms, keys that the header brings, claims that do not fit."""
    with pytest.raises(Unauthorized):
        Bearer(key, 60).read(_forged(key)[name])


def test_a_remembered_token_ends(key: Ed25519PrivateKey, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that was read before is refused once its time is over."""
    bearer = Bearer(key, 60)
    token = bearer.make(ALICE)
    bearer.read(token)
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    with pytest.raises(Unauthorized):
        bearer.read(token)


def test_key_is_made_once_and_private(tmp_path: Path) -> None:
    """The key is made with mode 0600, stays the same, and is refused where others may read it."""
    path = str(tmp_path / "root" / "token.key")
    first = load_key(path)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    raw = (serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    assert load_key(path).public_key().public_bytes(*raw) == first.public_key().public_bytes(*raw)
    assert os.listdir(tmp_path / "root") == ["token.key"]
    os.chmod(path, 0o640)
    with pytest.raises(InvalidArgument, match="must not be readable"):
        load_key(path)
