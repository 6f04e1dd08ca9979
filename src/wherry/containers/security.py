"""The system-call filter of a container: which profile, and where its compiled program lies."""

import hashlib
import json
import os
from typing import Any

from wherry.containers.context import Context
from wherry.errors import InvalidArgument
from wherry.oci.seccomp_profile import default_profile
from wherry.runtime.seccomp import cached_program
from wherry.store.atomic import write_atomic
from wherry.wire.containers import HostConfig

_known: dict[tuple[str, frozenset[str]], str] = {}


def seccomp_filter(context: Context, host: HostConfig, capabilities: frozenset[str]) -> dict[str, Any]:
    """Return what a launch or an exec says of the filter: `seccomp`, see `seccomp_program`, and `socketcalls`: whether
    the monitor makes sockets for 32-bit programs, whose way the profile closes. A user's own profile is kept as it is.

    Raises:
        As `seccomp_program`.
    """
    return {
        "seccomp": seccomp_program(context, host, capabilities),
        "socketcalls": _profile_text(context, host) == "",
    }


def seccomp_program(context: Context, host: HostConfig, capabilities: frozenset[str]) -> str | None:
    """Return the path of the compiled program; None for a container that asked for no confinement.

    Raises:
        InvalidArgument: the given profile is not JSON.
        KernelError, NotSupported: it cannot be compiled; never a reason to go without.
    """
    text = _profile_text(context, host)
    if text is None:
        return None
    key = (text, capabilities)
    path = _known.get(key)
    if path is None or not os.path.exists(path):
        profile: dict[str, Any] = json.loads(text) if text else default_profile()
        program = cached_program(profile, capabilities, context.roots.seccomp)
        path = f"{context.roots.seccomp}/{hashlib.sha256(program).hexdigest()}.bpf"
        if not os.path.exists(path):
            write_atomic(path, program, durable=False)
        _known[key] = path
    return path


def _profile_text(context: Context, host: HostConfig) -> str | None:
    """The profile as JSON text; empty for our own, None for unconfined."""
    asked = None
    for option in host.security_opt or []:
        name, _, value = option.replace(":", "=", 1).partition("=") if "=" not in option else option.partition("=")
        if name == "seccomp":
            asked = value
    if asked is None:
        if host.privileged:
            return None
        asked = context.config.seccomp_profile
        if asked not in ("", "builtin", "unconfined"):
            with open(asked, encoding="utf-8") as file:
                asked = file.read(1 << 20)
    if asked == "unconfined":
        return None
    if asked in ("", "builtin"):
        return ""
    try:
        json.loads(asked)
    except ValueError as error:
        raise InvalidArgument(f"Decoding seccomp profile failed: {error}") from None
    return asked
