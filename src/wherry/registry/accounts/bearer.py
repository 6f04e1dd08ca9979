"""Bearer tokens: Docker's JWT (distribution's token specification), with one algorithm and one key, both ours.

What a token's header says never chooses anything: the header that we write is a constant, and any other one is refused
before the rest is looked at (`alg: none`, another algorithm, `jku`, `jwk`, `x5c`, `kid`; CVE-2025-24976).
"""

import os
import secrets
import stat
import time
from collections import OrderedDict
from typing import Any, Final

import jwt
import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Struct

from wherry.errors import InvalidArgument, Unauthorized
from wherry.linux.files import sync_directory

SERVICE: Final = "wherry-registry"
_ALGORITHM: Final = "EdDSA"
_REMEMBERED: Final = 4096
_TOKEN_MAX: Final = 16 << 10


class Claims(Struct, frozen=True):
    """What a token says.

    Attributes:
        name: of the user or robot; "" for nobody in particular.
        account: number of the user; of the robot's maker; 0 for none.
        serial: of the account when the token was made.
        robot: number of the robot's token; 0 for none.
        access: repository -> actions asked for and allowed at that time; "" holds those of the registry.
        expires: seconds since the epoch.
    """

    name: str
    account: int
    serial: int
    robot: int
    access: dict[str, frozenset[str]]
    expires: int


class _Access(Struct):
    type: str
    name: str
    actions: list[str]


class _Payload(Struct):
    sub: str
    uid: int
    gen: int
    rid: int
    exp: int
    access: list[_Access]


class Bearer:
    """Makes and reads bearer tokens.

    Args:
        key: the private key.
        lifetime: of a token, in seconds.
    """

    def __init__(self, key: Ed25519PrivateKey, lifetime: int) -> None:
        self._private = key
        self._public = key.public_key()
        self.lifetime = lifetime
        self._header = jwt.encode({}, key, algorithm=_ALGORITHM).partition(".")[0] + "."
        self._read: OrderedDict[str, Claims] = OrderedDict()

    def make(self, claims: Claims) -> str:
        """Sign what somebody may do; `claims.expires` is set here."""
        now = int(time.time())
        access = [
            {"type": "repository" if name else "registry", "name": name or "catalog", "actions": sorted(actions)}
            for name, actions in claims.access.items()
        ]
        payload: dict[str, Any] = {
            "iss": SERVICE,
            "aud": SERVICE,
            "sub": claims.name,
            "uid": claims.account,
            "gen": claims.serial,
            "rid": claims.robot,
            "iat": now,
            "nbf": now - 60,  # clients whose clock is behind compare
            "exp": now + self.lifetime,
            "jti": secrets.token_hex(8),
            "access": access,
        }
        return jwt.encode(payload, self._private, algorithm=_ALGORITHM)

    def read(self, token: str) -> Claims:
        """What a token says.

        Raises:
            Unauthorized: it is not one of ours, or no longer good.
        """
        found = self._read.get(token)
        if found is None:
            found = self._verify(token)
            self._read[token] = found
            while len(self._read) > _REMEMBERED:
                self._read.popitem(last=False)
        elif found.expires <= time.time():
            del self._read[token]
            raise Unauthorized("the token is no longer good")
        return found

    def _verify(self, token: str) -> Claims:
        if len(token) > _TOKEN_MAX or not token.startswith(self._header):
            raise Unauthorized("the token is not one of this registry")
        try:
            payload = msgspec.convert(
                jwt.decode(
                    token,
                    self._public,
                    algorithms=[_ALGORITHM],
                    audience=SERVICE,
                    issuer=SERVICE,
                    options={"require": ["exp", "nbf", "iat", "aud", "iss", "sub"]},
                ),
                _Payload,
            )
        except jwt.ExpiredSignatureError:
            raise Unauthorized("the token is no longer good") from None
        except (jwt.PyJWTError, msgspec.ValidationError, ValueError):
            raise Unauthorized("the token is not one of this registry") from None
        access: dict[str, frozenset[str]] = {}
        for item in payload.access:
            name = item.name if item.type == "repository" else ""
            access[name] = access.get(name, frozenset()) | frozenset(item.actions)
        return Claims(payload.sub, payload.uid, payload.gen, payload.rid, access, payload.exp)


def load_key(path: str) -> Ed25519PrivateKey:
    """Read the signing key, or make it where there is none: PKCS 8, mode 0600.

    Raises:
        InvalidArgument: others may read it, or it is not an Ed25519 key.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        _make_key(path)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    with open(fd, "rb") as file:
        if stat.S_IMODE(os.fstat(fd).st_mode) & 0o077:
            raise InvalidArgument(f"{path}: the key that signs tokens must not be readable by others (chmod 600)")
        raw = file.read(16 << 10)
    try:
        key = serialization.load_pem_private_key(raw, None)
    except (ValueError, TypeError):
        raise InvalidArgument(f"{path}: not a private key") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise InvalidArgument(f"{path}: not an Ed25519 key")
    return key


def _make_key(path: str) -> None:
    raw = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    directory = os.path.dirname(os.path.abspath(path))
    os.makedirs(directory, 0o700, exist_ok=True)
    temporary = f"{path}.{os.getpid()}.{secrets.token_hex(4)}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(fd)
        try:
            os.link(temporary, path)  # of several processes that begin at once, one makes the key
        except FileExistsError:
            return
    finally:
        os.unlink(temporary)
    sync_directory(directory)
