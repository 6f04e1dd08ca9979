"""bpf(2), as far as a cgroup's device program needs it: instructions, load, attach, query, detach.

Every call passes a `union bpf_attr` that is zero beyond what it uses, as the kernel demands.
"""

import ctypes
import os
import struct

from wherry.errors import KernelError
from wherry.linux.libc import syscall

SYS_BPF = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "s390x": 351, "ppc64le": 361, "armv7l": 386}
PROG_LOAD, PROG_ATTACH, PROG_DETACH, PROG_GET_FD_BY_ID, PROG_QUERY = 5, 8, 9, 13, 16
TYPE_CGROUP_DEVICE = 15
ATTACH_CGROUP_DEVICE = 6
ALLOW_MULTI = 2
_ATTR_SIZE = 128
_LOG_SIZE = 64 * 1024
_MAX_ATTACHED = 64


class Insn:
    """One instruction: opcode, destination and source register, jump offset, immediate value."""

    __slots__ = ("code", "destination", "immediate", "jumps", "offset", "source")

    def __init__(
        self,
        code: int,
        destination: int = 0,
        source: int = 0,
        offset: int = 0,
        immediate: int = 0,
        *,
        jumps: bool = False,
    ) -> None:
        self.code = code
        self.destination = destination
        self.source = source
        self.offset = offset
        self.immediate = immediate
        self.jumps = jumps

    def encode(self) -> bytes:
        """The 8 bytes that the kernel reads."""
        registers = self.destination | self.source << 4
        return struct.pack("=BBhI", self.code, registers, self.offset, self.immediate & 0xFFFFFFFF)


def load_word(destination: int, base: int, offset: int) -> Insn:
    """`destination = *(u32 *)(base + offset)`."""
    return Insn(0x61, destination, base, offset)


def move(destination: int, source: int) -> Insn:
    """`destination = source` (32 bits)."""
    return Insn(0xBC, destination, source)


def op(name: str, destination: int, immediate: int) -> Insn:
    """`destination = destination <and|rsh> immediate` (32 bits)."""
    return Insn({"and": 0x54, "rsh": 0x74}[name], destination, immediate=immediate)


def jump_unless_equal(register: int, immediate: int) -> Insn:
    """Jump where the register is not the value (32 bits: a device number may fill them)."""
    return Insn(0x56, register, immediate=immediate, jumps=True)


def jump_if_equal(register: int, immediate: int) -> Insn:
    """Jump where the register is the value."""
    return Insn(0x16, register, immediate=immediate, jumps=True)


def exit_with(value: int) -> list[Insn]:
    """Return `value` from the program."""
    return [Insn(0xB4, 0, immediate=value), Insn(0x95)]


def _bpf(command: int, attr: bytes, what: str) -> tuple[int, bytes]:
    number = SYS_BPF.get(os.uname().machine)
    if number is None:
        raise KernelError(f"{what}: bpf is not known on this machine type", 38)
    buffer = ctypes.create_string_buffer(attr, _ATTR_SIZE)
    result = syscall(number, command, buffer, _ATTR_SIZE, what=what)
    return result, buffer.raw


def load_device_program(program: bytes) -> int:
    """Load a cgroup/device program and return its descriptor (close-on-exec).

    Raises:
        KernelError: the kernel refuses it; the verifier's words are in the message.
    """
    instructions = ctypes.create_string_buffer(program, len(program))
    licence = ctypes.create_string_buffer(b"Apache-2.0")

    def attr(log: "ctypes.Array[ctypes.c_char] | None") -> bytes:
        return struct.pack(
            "=IIQQIIQ",
            TYPE_CGROUP_DEVICE,
            len(program) // 8,
            ctypes.addressof(instructions),
            ctypes.addressof(licence),
            1 if log is not None else 0,
            _LOG_SIZE if log is not None else 0,
            ctypes.addressof(log) if log is not None else 0,
        )

    try:
        return _bpf(PROG_LOAD, attr(None), "load a device program")[0]
    except KernelError as error:
        # once more with a log, to be able to say why
        log = ctypes.create_string_buffer(_LOG_SIZE)
        try:
            return _bpf(PROG_LOAD, attr(log), "load a device program")[0]
        except KernelError:
            said = log.value.decode("ascii", "replace").strip().splitlines()
            raise KernelError(f"load a device program ({said[-1] if said else 'no log'})", error.errno or 0) from None


def attach_device_program(cgroup_fd: int, program_fd: int) -> None:
    """Attach beside what is there; all programs of a cgroup and its ancestors must agree."""
    attr = struct.pack("=IIII", cgroup_fd, program_fd, ATTACH_CGROUP_DEVICE, ALLOW_MULTI)
    _bpf(PROG_ATTACH, attr, "attach a device program")


def detach_device_program(cgroup_fd: int, program_fd: int) -> None:
    """Detach one program."""
    attr = struct.pack("=IIII", cgroup_fd, program_fd, ATTACH_CGROUP_DEVICE, 0)
    _bpf(PROG_DETACH, attr, "detach a device program")


def attached_device_programs(cgroup_fd: int) -> list[int]:
    """Ids of the device programs attached to this very cgroup."""
    ids = (ctypes.c_uint32 * _MAX_ATTACHED)()
    attr = struct.pack("=IIIIQI", cgroup_fd, ATTACH_CGROUP_DEVICE, 0, 0, ctypes.addressof(ids), _MAX_ATTACHED)
    _, answer = _bpf(PROG_QUERY, attr, "list device programs")
    (count,) = struct.unpack_from("=I", answer, 24)
    return list(ids[:count])


def program_by_id(program_id: int) -> int:
    """A descriptor of a loaded program."""
    return _bpf(PROG_GET_FD_BY_ID, struct.pack("=I", program_id), "open a device program")[0]


def replace_device_programs(cgroup_fd: int, program: bytes) -> None:
    """Make `program` the only device program of a cgroup.

    The new one is attached before the old ones go: in between both must agree, so nothing is ever unconfined.

    Raises:
        KernelError: the kernel has no cgroup device programs, or refuses.
    """
    old = attached_device_programs(cgroup_fd)
    fd = load_device_program(program)
    try:
        attach_device_program(cgroup_fd, fd)
    finally:
        os.close(fd)
    for program_id in old:
        fd = program_by_id(program_id)
        try:
            detach_device_program(cgroup_fd, fd)
        finally:
            os.close(fd)
