"""The box in which git runs: a program of its own that gives up the machine, and then executes git.

It is executed as root. What git gets: no capability and a user that owns nothing else; namespaces of its own; a root
of read-only programs and libraries with one directory to work in; loopback alone, with one socket on it that is served
from outside (`relay.py`). What is wrong with git, or with what it talks to, stays there.
"""

import contextlib
import os
import resource
import signal
import socket
import stat
import sys
from json import loads

from wherry.linux.mount import (
    MS_BIND,
    MS_NODEV,
    MS_NOSUID,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    fd_path,
    make_all_slave,
    mount,
    pivot_root,
    umount,
)
from wherry.linux.namespace import CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUTS, unshare
from wherry.linux.netlink import Netlink
from wherry.linux.process import drop_bounding, prctl
from wherry.linux.rtnetlink import set_link

USER = 0x7FFE1717
"""Nobody's number: files of the checkout are its until git is done."""

PORT = 1080
WORK = "/work"
CONNECT = "/connect"
AGENT = "/agent"
KNOWN_HOSTS = "/etc/known_hosts"

_PR_SET_NO_NEW_PRIVS = 38
_PROGRAMS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_FILES = (
    "/etc/ssl",
    "/etc/pki",
    "/etc/ca-certificates",
    "/etc/ld.so.cache",
    "/etc/alternatives",
    "/etc/crypto-policies",
)
_DEVICES = ("null", "zero", "urandom", "random")
_LOOPBACK = 1
_CONNECT_PROGRAM = """#!{python} -ISE
import os, select, socket, sys
host, port = sys.argv[1].encode(), int(sys.argv[2])
s = socket.create_connection(("127.0.0.1", {relay}))
s.sendall(b"\\5\\1\\0" + b"\\5\\1\\0\\3" + bytes([len(host)]) + host + port.to_bytes(2, "big"))
head = b""
while len(head) < 12:
    piece = s.recv(12 - len(head))
    if not piece:
        sys.exit(1)
    head += piece
if head[3]:
    sys.exit("connection refused by the engine")
inputs = [0, s]
while s in inputs:
    for one in select.select(inputs, [], [])[0]:
        data = os.read(0, 65536) if one == 0 else s.recv(65536)
        if not data:
            inputs.remove(one)
            if one == 0:
                s.shutdown(socket.SHUT_WR)
        elif one == 0:
            s.sendall(data)
        else:
            while data:
                data = data[os.write(1, data):]
"""


def main() -> None:
    """Confine this process and run git in it; exits as git does.

    The last word of the command line is JSON: `git` (its words, the program first), `directory`, `agent` (a socket, or
    ""), `known` (files of host keys), `control` (descriptor of a socket to which the listening one is sent).
    """
    asked = loads(sys.argv[-1])
    unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWPID)
    make_all_slave()
    _listen(asked["control"])
    known = b"".join(_content(path) for path in asked["known"])
    _enter(asked["directory"], asked["agent"], known)
    _give_up()
    # the first process of its namespace: all that it started ends with it
    pid = os.posix_spawn(asked["git"][0], asked["git"], os.environ)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os._exit(code if code >= 0 else 128 - code)


def _listen(control: int) -> None:
    netlink = Netlink()
    netlink.run([set_link(_LOOPBACK, up=True)])
    netlink.close()
    with socket.socket() as listener, socket.socket(fileno=control) as outside:
        listener.bind(("127.0.0.1", PORT))
        listener.listen(16)
        socket.send_fds(outside, [b"x"], [listener.fileno()])


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(1 << 20) + b"\n"
    except OSError:
        return b""


def _enter(directory: str, agent: str, known: bytes) -> None:
    """Make the root, and leave the host's."""
    work = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    talk = os.open(agent, os.O_PATH | os.O_CLOEXEC) if agent else -1
    root = "/tmp"
    mount("tmpfs", root, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=4m")
    for path in _PROGRAMS:
        if os.path.islink(path):
            os.symlink(os.readlink(path), root + path)
        elif os.path.isdir(path):
            _show(path, root + path)
    base = os.path.realpath(sys.base_prefix)
    if not base.startswith("/usr"):
        os.makedirs(root + base, exist_ok=True)
        _show(base, root + base)
    for place in ("/etc", "/dev", "/tmp", WORK):
        os.mkdir(root + place)
    os.chmod(f"{root}/tmp", 0o1777)
    for path in _FILES:
        if os.path.exists(path):
            _show(os.path.realpath(path), root + path)
    for name in _DEVICES:
        _bind(f"/dev/{name}", f"{root}/dev/{name}")
    _write(f"{root}/etc/passwd", f"git:x:{USER}:{USER}::/tmp:/bin/false\n".encode())
    _write(f"{root}/etc/nsswitch.conf", b"passwd: files\nhosts: files\n")
    _write(f"{root}/etc/hosts", b"127.0.0.1 localhost\n")
    _write(root + KNOWN_HOSTS, known)
    python = os.path.realpath(sys.executable)
    _write(root + CONNECT, _CONNECT_PROGRAM.format(python=python, relay=PORT).encode(), 0o755)
    mount(fd_path(work), root + WORK, "", MS_BIND)
    mount("", root + WORK, "", MS_BIND | MS_REMOUNT | MS_NOSUID | MS_NODEV)
    if talk >= 0:
        _write(root + AGENT, b"")
        mount(fd_path(talk), root + AGENT, "", MS_BIND)
        os.chown(root + AGENT, USER, USER)
    os.chown(root + WORK, USER, USER)
    os.chdir(root)
    pivot_root(".", ".")
    umount(".")
    mount("", "/", "", MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV)
    os.chdir(WORK)


def _show(path: str, place: str) -> None:
    """What is there, to be read only."""
    _bind(path, place, recursive=True)
    with contextlib.suppress(OSError):
        mount("", place, "", MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV)


def _bind(path: str, place: str, *, recursive: bool = False) -> None:
    if stat.S_ISDIR(os.stat(path).st_mode):
        os.makedirs(place, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(place), exist_ok=True)
        _write(place, b"")
    mount(path, place, "", MS_BIND | (MS_REC if recursive else 0))


def _write(path: str, data: bytes, mode: int = 0o644) -> None:
    with open(path, "wb") as file:
        file.write(data)
    os.chmod(path, mode)


def _give_up() -> None:
    """No capability, and no way to get one."""
    os.umask(0o022)
    for which, most in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_NPROC, 256), (resource.RLIMIT_NOFILE, 1024)):
        resource.setrlimit(which, (most, most))
    prctl(_PR_SET_NO_NEW_PRIVS, 1, what="prctl no_new_privs")
    drop_bounding(0)
    os.setgroups([])
    os.setresgid(USER, USER, USER)
    os.setresuid(USER, USER, USER)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
