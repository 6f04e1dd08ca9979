"""A device list as an eBPF program of type cgroup/device (v2 has no files for devices).

The kernel asks the program at each open and mknod with `struct bpf_cgroup_dev_ctx`: access (high half: 1 mknod, 2 read,
4 write) and type (low half: 1 block, 2 char), major, minor; 0 means EPERM.
"""

from wherry.linux.bpf import Insn, exit_with, jump_if_equal, jump_unless_equal, load_word, move, op
from wherry.runtime.cgroups.devices import ANY, DeviceList

ACCESS = {"m": 1, "r": 2, "w": 4}
KIND = {"b": 1, "c": 2}
# registers: r1 context, r2 type, r3 access, r4 major, r5 minor, r6 scratch
_TYPE, _ACCESS, _MAJOR, _MINOR, _SCRATCH = 2, 3, 4, 5, 6


def device_program(devices: DeviceList) -> bytes:
    """Assemble the decision.

    An allowed exception answers when it covers every access that is asked; a denied one when it covers any: the v1
    controller's rules.

    Returns:
        the program, 8 bytes an instruction.
    """
    code: list[Insn] = [
        load_word(_TYPE, 1, 0),
        move(_ACCESS, _TYPE),
        op("and", _TYPE, 0xFFFF),
        op("rsh", _ACCESS, 16),
        load_word(_MAJOR, 1, 4),
        load_word(_MINOR, 1, 8),
    ]
    verdict = 0 if devices.allow_all else 1
    for device in devices.exceptions:
        mask = sum(ACCESS[letter] for letter in device.access)
        tests: list[tuple[Insn, ...]] = [(jump_unless_equal(_TYPE, KIND[device.kind]),)]
        if device.major != ANY:
            tests.append((jump_unless_equal(_MAJOR, device.major),))
        if device.minor != ANY:
            tests.append((jump_unless_equal(_MINOR, device.minor),))
        if mask != 7:
            if devices.allow_all:
                # no access of ours among those asked: next
                tests.append((move(_SCRATCH, _ACCESS), op("and", _SCRATCH, mask), jump_if_equal(_SCRATCH, 0)))
            else:
                # an access asked that is not ours: next
                tests.append((move(_SCRATCH, _ACCESS), op("and", _SCRATCH, 7 & ~mask), jump_unless_equal(_SCRATCH, 0)))
        block = [insn for test in tests for insn in test] + exit_with(verdict)
        for place, insn in enumerate(block):
            if insn.jumps:
                insn.offset = len(block) - place - 1
        code += block
    code += exit_with(1 - verdict)
    return b"".join(insn.encode() for insn in code)
