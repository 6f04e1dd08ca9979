"""Device rules: an ordered OCI list becomes what the kernel is told, an allow list or a deny list.

The list is played through the v1 device controller's own rules (rule after rule, a wildcard rule resets), so that
v1 files and the v2 program decide alike. A rule that takes back a part of a wildcard has no v1 form and would be
ignored by the kernel: it is refused by name.
"""

from wherry.errors import InvalidSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

ANY = -1


class Device:
    """One exception to the default: type `c` or `b`, numbers (`ANY` is all), access out of `rwm`."""

    __slots__ = ("access", "kind", "major", "minor")

    def __init__(self, kind: str, major: int, minor: int, access: str) -> None:
        self.kind = kind
        self.major = major
        self.minor = minor
        self.access = "".join(letter for letter in "rwm" if letter in access)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __repr__(self) -> str:
        return f"Device({str(self)!r})"

    def __str__(self) -> str:
        """The rule as `devices.allow` reads it: `c 1:3 rwm`, `b 8:* r`."""
        major = "*" if self.major == ANY else self.major
        minor = "*" if self.minor == ANY else self.minor
        return f"{self.kind} {major}:{minor} {self.access}"

    @property
    def key(self) -> "tuple[str, int, int]":
        return (self.kind, self.major, self.minor)

    def overlaps(self, other: "Device") -> bool:
        """Whether some device fits both."""
        return (
            self.kind == other.kind
            and (self.major == other.major or ANY in (self.major, other.major))
            and (self.minor == other.minor or ANY in (self.minor, other.minor))
        )


class DeviceList:
    """The outcome: `allow_all` with denied exceptions, or deny all with allowed ones.

    Attributes:
        allow_all: what happens to a device that no exception names.
        exceptions: the others, in order of first mention.
    """

    __slots__ = ("_by_key", "allow_all")

    def __init__(self, *, allow_all: bool) -> None:
        self.allow_all = allow_all
        self._by_key: dict[tuple[str, int, int], Device] = {}

    @property
    def exceptions(self) -> "list[Device]":
        return list(self._by_key.values())

    def play(self, *, allow: bool, device: Device) -> None:
        """Apply one rule.

        Raises:
            InvalidSpec: it takes back a part of a wildcard exception.
        """
        if allow != self.allow_all:
            known = self._by_key.get(device.key)
            access = device.access + (known.access if known else "")
            self._by_key[device.key] = Device(*device.key, access)
            return
        for key, known in list(self._by_key.items()):
            if key == device.key:
                rest = "".join(letter for letter in known.access if letter not in device.access)
                if rest:
                    self._by_key[key] = Device(*key, rest)
                else:
                    del self._by_key[key]
            elif known.overlaps(device) and any(letter in known.access for letter in device.access):
                verb = "allow" if allow else "deny"
                raise InvalidSpec(f"device rule '{verb} {device}' takes back a part of '{known}'")

    def reset(self, *, allow_all: bool) -> None:
        self.allow_all = allow_all
        self._by_key.clear()


def device_list(rules: "Sequence[Mapping[str, Any]]", *, allow_all: bool = True) -> DeviceList:
    """Play `linux.resources.devices` (`{"allow", "type", "major", "minor", "access"}`…) on a fresh cgroup.

    Args:
        rules: the OCI rules in order; an absent number or -1 is all, an absent type or `a` both types.
        allow_all: what the cgroup does before the first rule (a new one inherits, so: everything).

    Raises:
        InvalidSpec: a rule that the specification or the controller does not know.
    """
    outcome = DeviceList(allow_all=allow_all)
    for rule in rules:
        allow, kind = bool(rule.get("allow")), rule.get("type") or "a"
        major, minor = _device_number(rule, "major"), _device_number(rule, "minor")
        access = rule.get("access") or "rwm"
        if kind == "u":
            kind = "c"
        if kind not in ("a", "b", "c") or not isinstance(access, str) or access.strip("rwm"):
            raise InvalidSpec(f"linux.resources.devices: not a device rule: {dict(rule)}")
        if kind != "a":
            outcome.play(allow=allow, device=Device(kind, major, minor, access))
        elif major == ANY and minor == ANY and set(access) == set("rwm"):
            outcome.reset(allow_all=allow)
        else:
            # the controller's own `a` ignores numbers and access; what was meant is one rule for each type
            for each in ("b", "c"):
                outcome.play(allow=allow, device=Device(each, major, minor, access))
    return outcome


def _device_number(rule: "Mapping[str, Any]", name: str) -> int:
    value = rule.get(name)
    if value is None:
        return ANY
    if isinstance(value, bool) or not isinstance(value, int) or not -1 <= value < 1 << 32:
        raise InvalidSpec(f"linux.resources.devices: {name} {value!r} is not a device number")
    return value
