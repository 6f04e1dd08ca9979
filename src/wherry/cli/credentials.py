"""Docker's `config.json`: who one is at which registry, in it or with a credential helper.

`$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`; where that is absent, the older `~/.dockercfg` is read.
Keys that we do not know are kept.
"""

import os

from wherry.cli.failure import Failure
from wherry.client.quickjson import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

HUB = "https://index.docker.io/v1/"
_HUB_NAMES = ("docker.io", "index.docker.io", "registry-1.docker.io")
_TOKEN_USER = "<token>"
_NOT_FOUND = "credentials not found in native keychain"


def server_of(registry: str) -> str:
    """The key that a registry has in the file: its host, and Docker Hub its old address."""
    host = registry.removeprefix("https://").removeprefix("http://").partition("/")[0]
    return HUB if not host or host in _HUB_NAMES else host


def registry_of(name: str) -> str:
    """The key of the registry that an image's name is at."""
    first, slash, _ = name.partition("/")
    there = slash and ("." in first or ":" in first or first == "localhost" or first.lower() != first)
    return server_of(first if there else "")


def directory() -> str:
    """Where Docker's configuration is."""
    return os.environ.get("DOCKER_CONFIG") or os.path.join(os.path.expanduser("~"), ".docker")


class Config:
    """The file as it is now."""

    def __init__(self) -> None:
        self.path = os.path.join(directory(), "config.json")
        self._value: dict[str, Any] = {}
        try:
            self._value = _read(self.path)
        except FileNotFoundError:
            try:
                old = _read(os.path.join(os.path.expanduser("~"), ".dockercfg"))
            except FileNotFoundError:
                old = {}
            if old:
                self._value = {"auths": old}

    def section(self, name: str) -> "dict[str, Any]":
        """A section of the file that is an object; empty where there is none."""
        value = self._value.get(name)
        return value if isinstance(value, dict) else {}

    def every(self) -> "dict[str, dict[str, str]]":
        """What is known of all registries that the file names, by registry."""
        servers: set[str] = set()
        for section in ("auths", "credHelpers"):
            entries = self._value.get(section)
            servers |= set(entries if isinstance(entries, dict) else ())
        return {server: auth for server in sorted(servers) if (auth := self.get(server))}

    def get(self, server: str) -> "dict[str, str]":
        """What is known of a registry, as Docker's AuthConfig; empty where nothing is."""
        helper = self._helper(server)
        if helper:
            answer = _ask(helper, "get", server.encode())
            if answer is None:
                return {}
            secret, user = str(answer.get("Secret", "")), str(answer.get("Username", ""))
            if user == _TOKEN_USER:
                return {"identitytoken": secret, "serveraddress": server}
            return {"username": user, "password": secret, "serveraddress": server}
        auths = self._value.get("auths")
        found = None
        for key, value in auths.items() if isinstance(auths, dict) else ():
            if key == server or server_of(key) == server:
                found = value
                if key == server:
                    break
        if not isinstance(found, dict):
            return {}
        auth = {"serveraddress": server}
        if found.get("auth"):
            from binascii import a2b_base64

            try:
                user, _, password = a2b_base64(str(found["auth"])).decode().partition(":")
            except ValueError:
                raise Failure(f"{self.path}: auths: {server}: auth is not base64") from None
            auth.update(username=user, password=password.rstrip("\0"))
        for key in ("username", "password", "identitytoken", "registrytoken"):
            if found.get(key):
                auth[key] = str(found[key])
        return auth if len(auth) > 1 else {}

    def store(self, server: str, user: str, password: str, token: str) -> bool:
        """Keep a credential; returns whether it lies in plain text now."""
        helper = self._helper(server)
        auths = self._value.setdefault("auths", {})
        if helper:
            secret = {"ServerURL": server, "Username": _TOKEN_USER if token else user, "Secret": token or password}
            _ask(helper, "store", dumps(secret).encode())
            auths[server] = {}
        elif token:
            auths[server] = {"auth": _packed(user, ""), "identitytoken": token}
        else:
            auths[server] = {"auth": _packed(user, password)}
        self._write()
        return not helper

    def erase(self, server: str) -> bool:
        """Forget a registry; returns whether it was known."""
        helper = self._helper(server)
        auths = self._value.get("auths")
        auths = auths if isinstance(auths, dict) else {}
        known = [key for key in auths if key == server or server_of(key) == server]
        if helper and known:
            _ask(helper, "erase", server.encode())
        for key in known:
            del auths[key]
        if known:
            self._write()
        return bool(known)

    def _helper(self, server: str) -> str:
        helpers = self._value.get("credHelpers")
        host = server.removeprefix("https://").partition("/")[0]
        if isinstance(helpers, dict):
            named = helpers.get(server) or helpers.get(host) or ""
            if named:
                return str(named)
        return str(self._value.get("credsStore") or "")

    def _write(self) -> None:
        # the target of a link is replaced, not the link
        path = os.path.realpath(self.path)
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        temporary = f"{path}.tmp-{os.getpid()}"
        text = dumps(self._value)
        try:
            import json

            text = json.dumps(self._value, indent="\t", ensure_ascii=False)
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(fd, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError as error:
            raise Failure(f"Error saving credentials: {os.strerror(error.errno or 0).lower()}: {path}") from None


def header(name: str) -> "dict[str, str]":
    """The headers that prove who asks for an image of that name; none where nothing is known."""
    auth = Config().get(registry_of(name))
    return {"X-Registry-Auth": encoded(auth)} if auth else {}


def encoded(auth: "Mapping[str, Any]") -> str:
    """An AuthConfig as a header carries it."""
    from binascii import b2a_base64

    text = b2a_base64(dumps(auth).encode("utf-8", "surrogateescape"), newline=False).decode()
    return text.replace("+", "-").replace("/", "_")


def _packed(user: str, password: str) -> str:
    from binascii import b2a_base64

    return b2a_base64(f"{user}:{password}".encode(), newline=False).decode()


def _read(path: str) -> "dict[str, Any]":
    try:
        with open(path, "rb") as file:
            value = loads(file.read() or b"{}")
    except ValueError:
        raise Failure(f"WARNING: Error loading config file: {path}: not JSON") from None
    except PermissionError:
        raise Failure(f"open {path}: permission denied") from None
    if not isinstance(value, dict):
        raise Failure(f"WARNING: Error loading config file: {path}: not a JSON object")
    return value


def _ask(helper: str, verb: str, words: bytes) -> "dict[str, Any] | None":
    """Run a credential helper; None: it knows nothing of the registry."""
    import subprocess

    if "/" in helper:
        raise Failure(f"invalid credential helper name {helper!r}")
    try:
        done = subprocess.run([f"docker-credential-{helper}", verb], input=words, capture_output=True, check=False)
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise Failure(f'error getting credentials - err: exec: "docker-credential-{helper}": {reason}') from None
    said = done.stdout.decode("utf-8", "replace").strip()
    if done.returncode:
        if verb != "store" and _NOT_FOUND in said:
            return None
        raise Failure(f"error getting credentials - err: exit status {done.returncode}, out: `{said}`")
    value = loads(said) if verb == "get" else {}
    return value if isinstance(value, dict) else {}
