"""Device rules: one meaning for v1's files and v2's program."""

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry.errors import InvalidSpec
from wherry.oci.isolation import default_device_rules
from wherry.runtime.cgroups.device_program import ACCESS, KIND, device_program
from wherry.runtime.cgroups.devices import ANY, DeviceList, device_list

ALL: dict[str, Any] = {"allow": True, "access": "rwm"}
NONE: dict[str, Any] = {"allow": False, "access": "rwm"}


def rule(allow: bool, kind: str, major: int, minor: int, access: str) -> dict[str, Any]:
    return {"allow": allow, "type": kind, "major": major, "minor": minor, "access": access}


def run(program: bytes, kind: str, major: int, minor: int, access: str) -> bool:
    """Execute the few instructions that the generator uses, as the kernel does."""
    context = struct.pack("=III", sum(ACCESS[a] for a in access) << 16 | KIND[kind], major, minor)
    registers = [0] * 11
    at = 0
    while True:
        code, both, offset, immediate = struct.unpack_from("=BBhI", program, at * 8)
        target, source = both & 15, both >> 4
        at += 1
        if code == 0x61:
            registers[target] = struct.unpack_from("=I", context, offset)[0]
        elif code == 0xBC:
            registers[target] = registers[source]
        elif code == 0x54:
            registers[target] &= immediate
        elif code == 0x74:
            registers[target] >>= immediate
        elif code == 0x56:
            at += offset if registers[target] != immediate else 0
        elif code == 0x16:
            at += offset if registers[target] == immediate else 0
        elif code == 0xB4:
            registers[target] = immediate
        else:
            assert code == 0x95
            return bool(registers[0])


def decide(devices: DeviceList, kind: str, major: int, minor: int, access: str) -> bool:
    """The v1 controller's own decision."""
    for device in devices.exceptions:
        if device.kind != kind or device.major not in (ANY, major) or device.minor not in (ANY, minor):
            continue
        if devices.allow_all and set(access) & set(device.access):
            return False
        if not devices.allow_all and set(access) <= set(device.access):
            return True
    return devices.allow_all


def test_the_default_rules_open_what_every_container_has() -> None:
    """null, zero, tty, pts may be opened; every node may be made; disks may not be opened."""
    program = device_program(device_list(default_device_rules()))
    assert run(program, "c", 1, 3, "rw")
    assert run(program, "c", 136, 7, "rwm")
    assert run(program, "b", 254, 0, "m")
    assert not run(program, "b", 254, 0, "r")
    assert not run(program, "b", 254, 0, "rm")
    assert not run(program, "c", 1, 1, "r")
    assert not run(program, "c", 10, 229, "rw")


def test_lines_for_v1() -> None:
    """The words that devices.allow reads."""
    found = device_list([NONE, rule(True, "c", 1, 3, "mrw"), rule(True, "b", 8, ANY, "r")])
    assert not found.allow_all
    assert [str(device) for device in found.exceptions] == ["c 1:3 rwm", "b 8:* r"]


def test_a_wildcard_rule_forgets_what_came_before() -> None:
    """As the kernel's `a` does."""
    found = device_list([rule(False, "c", 1, 3, "rwm"), NONE, ALL])
    assert found.allow_all
    assert found.exceptions == []


def test_accesses_of_one_device_add_up_and_are_taken_back() -> None:
    """Rules about the same numbers are one exception."""
    rules = [NONE, rule(True, "c", 1, 3, "r"), rule(True, "c", 1, 3, "w"), rule(False, "c", 1, 3, "r")]
    assert [str(device) for device in device_list(rules).exceptions] == ["c 1:3 w"]


def test_taking_back_a_part_of_a_wildcard_is_refused() -> None:
    """The kernel would ignore such a rule, and leave open what was to be closed."""
    with pytest.raises(InvalidSpec, match="takes back a part"):
        device_list([NONE, rule(True, "c", 1, ANY, "rw"), rule(False, "c", 1, 3, "w")])


@pytest.mark.parametrize(
    "bad",
    [
        {"allow": True, "type": "x", "access": "r"},
        {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rx"},
        {"allow": True, "type": "c", "major": -2, "minor": 3, "access": "r"},
        {"allow": True, "type": "c", "major": "1", "minor": 3, "access": "r"},
        {"allow": True, "type": "c", "major": 1, "minor": 1 << 32, "access": "r"},
    ],
)
def test_rules_that_are_none(bad: dict[str, Any]) -> None:
    """Refused with the rule in the message."""
    with pytest.raises(InvalidSpec, match=r"linux\.resources\.devices"):
        device_list([bad])


ACCESSES = st.sampled_from(["r", "w", "m", "rw", "rm", "wm", "rwm"])
NUMBERS = st.sampled_from([ANY, 0, 1, 5, 136, (1 << 32) - 1])
RULES = st.lists(
    st.one_of(
        st.sampled_from([ALL, NONE]), st.builds(rule, st.booleans(), st.sampled_from("abc"), NUMBERS, NUMBERS, ACCESSES)
    ),
    max_size=8,
)


@settings(deadline=None)
@given(RULES, st.sampled_from("bc"), st.sampled_from([0, 1, 5, 136, (1 << 32) - 1]), st.integers(0, 6), ACCESSES)
def test_the_program_decides_as_the_v1_controller(
    rules: list[dict[str, Any]], kind: str, major: int, minor: int, access: str
) -> None:
    """For any rules that have a v1 form."""
    try:
        devices = device_list(rules)
    except InvalidSpec:
        return
    assert run(device_program(devices), kind, major, minor, access) == decide(devices, kind, major, minor, access)
