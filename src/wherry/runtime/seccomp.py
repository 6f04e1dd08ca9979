"""Seccomp profiles: from Docker's or OCI's JSON to a program, and a cache of programs.

A profile that cannot be compiled, or a library that is not there, is an error; never a container without a filter.
"""

import json
import os
import sys

from wherry.errors import InvalidSpec, NotSupported
from wherry.linux import libseccomp
from wherry.linux.files import write_atomic
from wherry.linux.libseccomp import Comparison
from wherry.linux.seccomp import INSTRUCTION, MAX_INSTRUCTIONS
from wherry.oci.seccomp_profile import default_profile
from wherry.runtime.seccomp_stub import ENOSYS_ACTION, NEWER, X32_BIT, Architecture, Refusal, assemble

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    Profile = Mapping[str, Any]

# part of the cache key: change it with any change of what is generated
GENERATOR = "1"
DEFAULT_ERRNO = 1
_MAX_ERRNO = 4095

_OPS = {
    "SCMP_CMP_NE": libseccomp.NE,
    "SCMP_CMP_LT": libseccomp.LT,
    "SCMP_CMP_LE": libseccomp.LE,
    "SCMP_CMP_EQ": libseccomp.EQ,
    "SCMP_CMP_GE": libseccomp.GE,
    "SCMP_CMP_GT": libseccomp.GT,
    "SCMP_CMP_MASKED_EQ": libseccomp.MASKED_EQ,
}
_ACTIONS = {
    "SCMP_ACT_KILL": libseccomp.KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": libseccomp.KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": libseccomp.KILL_PROCESS,
    "SCMP_ACT_TRAP": libseccomp.TRAP,
    "SCMP_ACT_ERRNO": libseccomp.ERRNO,
    "SCMP_ACT_TRACE": libseccomp.TRACE,
    "SCMP_ACT_ALLOW": libseccomp.ALLOW,
    "SCMP_ACT_LOG": libseccomp.LOG,
}
_PASSING = frozenset({libseccomp.ALLOW, libseccomp.LOG})

# uname -m -> (libseccomp's name, the name that `includes.arches` uses)
_MACHINES = {
    "x86_64": ("x86_64", "amd64"),
    "i686": ("x86", "x86"),
    "aarch64": ("aarch64", "arm64"),
    "armv7l": ("arm", "arm"),
    "riscv64": ("riscv64", "riscv64"),
    "s390x": ("s390x", "s390x"),
    "ppc64le": ("ppc64le", "ppc64le"),
}
_AUDIT_X86_64 = 0xC000003E

# where socket calls are both calls of their own and numbers of socketcall(2), libseccomp names the latter
_MULTIPLEXED = frozenset({"x86", "s390", "s390x"})
_DIRECT = dict(
    zip(
        (
            *(
                "socket",
                "socketpair",
                "bind",
                "connect",
                "listen",
                "accept4",
                "getsockopt",
                "setsockopt",
                "getsockname",
            ),
            *("getpeername", "sendto", "sendmsg", "recvfrom", "recvmsg", "shutdown"),
        ),
        range(359, 374),
        strict=True,
    )
)


class Rule:
    """One call's rule, after includes and excludes were looked at.

    `comparisons` are alternatives: each is a list that must fit as a whole.
    """

    __slots__ = ("action", "comparisons", "name")

    def __init__(self, name: str, action: int, comparisons: "list[list[Comparison]]") -> None:
        self.name = name
        self.action = action
        self.comparisons = comparisons


class Resolved:
    """A profile for one machine and one set of capabilities."""

    __slots__ = ("architectures", "default", "rules")

    def __init__(self, default: int, architectures: "list[str]", rules: "list[Rule]") -> None:
        self.default = default
        self.architectures = architectures
        self.rules = rules


def resolve(
    profile: "Profile", *, capabilities: "frozenset[str]", machine: "str | None" = None, kernel: "str | None" = None
) -> Resolved:
    """Read a profile and choose what applies. Pure.

    Args:
        profile: OCI `linux.seccomp`, or a Docker profile.
        capabilities: the container's bounding set.
        machine: as `uname -m` says it.
        kernel: as `uname -r` says it.

    Raises:
        InvalidSpec: it is malformed; the member is named.
        NotSupported: it asks for a listener.
    """
    uname = os.uname()
    machine, kernel = machine or uname.machine, kernel or uname.release
    name, alias = _MACHINES.get(machine, (machine, machine))
    if profile.get("listenerPath"):
        raise NotSupported("seccomp: listenerPath (user notification) is not supported")
    default_errno = profile.get("defaultErrnoRet")
    default = _action(profile.get("defaultAction"), default_errno, DEFAULT_ERRNO, "defaultAction")
    rules: list[Rule] = []
    for place, item in enumerate(_list(profile, "syscalls")):
        where = f"seccomp.syscalls[{place}]"
        if not isinstance(item, dict):
            raise InvalidSpec(f"{where} must be an object")
        if not _applies(item, capabilities, alias, kernel, where):
            continue
        action = _action(item.get("action"), item.get("errnoRet"), _errno_of(default), f"{where}.action")
        comparisons = _comparisons(_list(item, "args", where), where)
        rules += [Rule(call, action, comparisons) for call in _names(item, where)]
    return Resolved(default, _architectures(profile, name), rules)


def compile_profile(
    profile: "Profile",
    *,
    capabilities: "frozenset[str]" = frozenset(),
    machine: "str | None" = None,
    kernel: "str | None" = None,
) -> bytes:
    """Compile a profile for this machine.

    Args:
        profile: OCI `linux.seccomp`, or a Docker profile.
        capabilities: the container's bounding set; a Docker profile's rules depend on it.
        machine, kernel: by default those of the running kernel.

    Returns:
        A BPF program for `linux.seccomp.install_filter`.

    Raises:
        InvalidSpec: the profile is malformed, or too large for the kernel.
        NotSupported: libseccomp is not there, or the profile needs what is not supported.
        KernelError: libseccomp refuses a rule.
    """
    return _compile(resolve(profile, capabilities=capabilities, machine=machine, kernel=kernel))


def _compile(resolved: Resolved) -> bytes:
    tokens: dict[str, int] = {}
    for name in resolved.architectures:
        token = libseccomp.architecture(name)
        if not token:
            raise NotSupported(f"seccomp: libseccomp {libseccomp.version()} does not know the architecture {name}")
        tokens[name] = token
    allowed = {rule.name for rule in resolved.rules if rule.action in _PASSING and not rule.comparisons}
    refused: list[Rule] = []
    newer: dict[int, int] = {}
    with libseccomp.Filter(resolved.default) as building:
        for token in tokens.values():
            building.add_architecture(token)
        for rule in resolved.rules:
            number = libseccomp.number(rule.name)
            if rule.comparisons and rule.action not in _PASSING and rule.name in allowed:
                refused.append(rule)
            elif rule.name in NEWER and number < 0:
                # an allowance for some arguments cannot be said in the stub: such a call is then not there at all
                newer[NEWER[rule.name]] = ENOSYS_ACTION if rule.comparisons else rule.action
            elif number == libseccomp.UNKNOWN or rule.action == resolved.default:
                continue  # a call of no architecture that libseccomp knows; what is the default anyway
            else:
                for comparisons in rule.comparisons or [[]]:
                    building.add_rule(rule.action, number, comparisons)
        program = building.export()
    stub = _stub(resolved, tokens, refused, newer)
    whole = stub + program
    if len(whole) > MAX_INSTRUCTIONS * INSTRUCTION:
        raise InvalidSpec(f"seccomp: the profile compiles to more than {MAX_INSTRUCTIONS} instructions")
    return whole


def _stub(resolved: Resolved, tokens: "dict[str, int]", refused: "list[Rule]", newer: "dict[int, int]") -> bytes:
    restrictive = resolved.default not in _PASSING and resolved.default & 0x7FFF0000 != libseccomp.TRACE
    mentioned = {rule.name for rule in resolved.rules}
    if restrictive:
        for name, number in NEWER.items():
            if name not in mentioned:
                newer[number] = ENOSYS_ACTION
    parts = []
    for name, token in tokens.items():
        numbers = [libseccomp.number(rule.name, token) for rule in resolved.rules]
        if name == "x32":
            numbers = [number & ~X32_BIT for number in numbers if number >= 0]
        highest = max([*numbers, *newer, 0]) if restrictive else None
        refusals = []
        for rule in refused:
            number = libseccomp.number(rule.name, token)
            if number < 0 and name in _MULTIPLEXED:
                number = _DIRECT.get(rule.name, number)
            if number < 0:
                continue
            number &= ~X32_BIT if name == "x32" else ~0
            refusals += [
                Refusal(number, rule.action, [_masked(rule, one) for one in comparisons])
                for comparisons in rule.comparisons
            ]
        audit = _AUDIT_X86_64 if name == "x32" else token
        parts.append(Architecture(audit, refusals, newer, highest, X32_BIT if name == "x32" else 0))
    return assemble(parts, little_endian=sys.byteorder == "little")


def _masked(rule: Rule, comparison: Comparison) -> "tuple[int, int, int]":
    if comparison.op == libseccomp.MASKED_EQ:
        return comparison.index, comparison.a, comparison.b
    if comparison.op == libseccomp.EQ:
        return comparison.index, (1 << 64) - 1, comparison.a
    raise NotSupported(
        f"seccomp: {rule.name} is allowed and some of its arguments refused by a comparison other than equality"
    )


def cached_program(profile: "Profile | None", capabilities: "frozenset[str]", cache_dir: str) -> bytes:
    """The compiled program, from the cache where it is.

    Args:
        profile: None is ours.
        capabilities: the container's bounding set.
        cache_dir: where compiled programs are kept, one file each (0600); made when it is not there.

    Raises:
        As `compile_profile`.
    """
    import hashlib

    wanted = default_profile() if profile is None else profile
    uname = os.uname()
    key = json.dumps(
        [GENERATOR, wanted, sorted(capabilities), uname.machine, uname.release, libseccomp.version()], sort_keys=True
    )
    path = f"{cache_dir}/{hashlib.sha256(key.encode()).hexdigest()}.seccomp"
    found = _read(path)
    # the file says what it should be: a torn one is compiled again, not installed
    if len(found) > 32 and hashlib.sha256(found[32:]).digest() == found[:32]:
        return found[32:]
    program = compile_profile(wanted, capabilities=capabilities)
    os.makedirs(cache_dir, mode=0o700, exist_ok=True)
    write_atomic(path, hashlib.sha256(program).digest() + program, mode=0o600, durable=False)
    return program


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(32 + MAX_INSTRUCTIONS * INSTRUCTION + 1)
    except OSError:
        return b""


def _list(owner: "Profile", name: str, where: str = "seccomp") -> "list[Any]":
    value = owner.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidSpec(f"{where}.{name} must be a list")
    return value


def _names(item: "Profile", where: str) -> "list[str]":
    names, name = _list(item, "names", where), item.get("name")
    if name and names:
        raise InvalidSpec("'name' and 'names' were specified in the seccomp profile, use either 'name' or 'names'")
    found = [name] if name else names
    if not all(isinstance(each, str) for each in found):
        raise InvalidSpec(f"{where}.names must be a list of strings")
    return found


def _errno_of(action: int) -> int:
    return action & 0xFFFF if action & 0x7FFF0000 == libseccomp.ERRNO else DEFAULT_ERRNO


def _action(name: "Any", value: "Any", default_errno: int, where: str) -> int:
    if name == "SCMP_ACT_NOTIFY":
        raise NotSupported("seccomp: SCMP_ACT_NOTIFY (user notification) is not supported")
    base = _ACTIONS.get(name) if isinstance(name, str) else None
    if base is None:
        raise InvalidSpec(f"seccomp: {where}: unknown action {name!r}")
    if base not in (libseccomp.ERRNO, libseccomp.TRACE):
        return base
    number = default_errno if value is None else value
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= _MAX_ERRNO:
        raise InvalidSpec(f"seccomp: {where}: {value!r} is no error number")
    return base | number


def _applies(item: "Profile", capabilities: "frozenset[str]", machine: str, kernel: str, where: str) -> bool:
    includes, excludes = item.get("includes") or {}, item.get("excludes") or {}
    if not isinstance(includes, dict) or not isinstance(excludes, dict):
        raise InvalidSpec(f"{where}.includes and excludes must be objects")
    if any(capability in capabilities for capability in _list(excludes, "caps", where)):
        return False
    if machine in _list(excludes, "arches", where):
        return False
    newest = excludes.get("minKernel")
    if newest and not _older(kernel, newest, where):
        return False
    if not all(capability in capabilities for capability in _list(includes, "caps", where)):
        return False
    arches = _list(includes, "arches", where)
    if arches and machine not in arches:
        return False
    oldest = includes.get("minKernel")
    return not (oldest and _older(kernel, oldest, where))


def _older(kernel: str, than: "Any", where: str) -> bool:
    return _numbers(kernel, where) < _numbers(than, where)


def _numbers(release: "Any", where: str) -> "tuple[int, int]":
    """Major and minor of a kernel release (`6.1.0-13-amd64`)."""
    parts = str(release).split(".")
    digits = ["".join(_leading_digits(part)) for part in parts[:2]]
    if len(digits) < 2 or not all(digits):
        raise InvalidSpec(f"{where}: {release!r} is no kernel version")
    return int(digits[0]), int(digits[1])


def _leading_digits(text: str) -> "list[str]":
    found = []
    for char in text:
        if not ("0" <= char <= "9"):
            break
        found.append(char)
    return found


def _comparisons(args: "list[Any]", where: str) -> "list[list[Comparison]]":
    """Comparisons that must all fit; two of one argument are alternatives, as every runtime has it."""
    found: list[Comparison] = []
    for place, arg in enumerate(args):
        if not isinstance(arg, dict):
            raise InvalidSpec(f"{where}.args[{place}] must be an object")
        op = _OPS.get(arg.get("op", ""))
        numbers = [arg.get("index", 0), arg.get("value", 0) or 0, arg.get("valueTwo", 0) or 0]
        if op is None or any(isinstance(n, bool) or not isinstance(n, int) or not 0 <= n < 1 << 64 for n in numbers):
            raise InvalidSpec(f"{where}.args[{place}]: not a comparison: {arg}")
        if numbers[0] > 5:
            raise InvalidSpec(f"{where}.args[{place}]: a system call has six arguments")
        found.append(Comparison(numbers[0], op, numbers[1], numbers[2]))
    if not found:
        return []
    indexes = [comparison.index for comparison in found]
    if len(set(indexes)) == len(indexes):
        return [found]
    return [[comparison] for comparison in found]


def _architectures(profile: "Profile", native: str) -> "list[str]":
    """Names as libseccomp has them, the native one first."""
    listed, mapped = _list(profile, "architectures"), _list(profile, "archMap")
    if listed and mapped:
        raise InvalidSpec(
            "'architectures' and 'archMap' were specified in the seccomp profile, "
            "use either 'architectures' or 'archMap'"
        )
    names = [_architecture(name) for name in listed]
    for item in mapped:
        if not isinstance(item, dict):
            raise InvalidSpec("seccomp.archMap must be a list of objects")
        if _architecture(item.get("architecture")) == native:
            names += [_architecture(name) for name in _list(item, "subArchitectures", "seccomp.archMap")]
    return list(dict.fromkeys([native, *names]))


def _architecture(name: "Any") -> str:
    if not isinstance(name, str) or not name.startswith("SCMP_ARCH_"):
        raise InvalidSpec(f"seccomp: unknown architecture {name!r}")
    return name.removeprefix("SCMP_ARCH_").lower()
