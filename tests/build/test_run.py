"""`RUN` on real containers: mounts of every kind, networks, heredocs, users."""

import os
import socket

import pytest

from tests.build.conftest import Context, tar_of
from tests.e2e.harness import EngineProcess, until

pytestmark = pytest.mark.root


def test_a_bind_mount_shows_files_of_a_stage_and_of_the_context(context: Context) -> None:
    """What is mounted can be read, not written; nothing of it, nor of its mount point, is in the layer."""
    context.write("dir/f", "from-context")
    context.docker(
        "FROM busybox AS a\nRUN mkdir /x && echo from-stage > /x/y\n"
        "FROM busybox\n"
        "RUN --mount=type=bind,from=a,source=/x,target=/mnt/new/place --mount=source=dir/f,target=/one "
        "cat /mnt/new/place/y /one > /out; touch /mnt/new/place/z; echo $? >> /out\n",
        "-t",
        "bound",
    )
    assert context.run("bound", "cat", "/out") == "from-stage\nfrom-context1\n"
    assert context.run("bound", "sh", "-c", "ls -d /mnt /one 2>&1 | grep -c 'No such'") == "2\n"


def test_what_is_written_into_a_writable_bind_is_thrown_away(context: Context) -> None:
    """`rw` gives a place to write; neither the stage nor the context on disk has it afterwards."""
    context.write("f", "1")
    context.docker(
        "FROM busybox AS a\nRUN echo 1 > /f\n"
        "FROM busybox\nRUN --mount=from=a,target=/a,rw --mount=target=/c,rw "
        "echo 2 > /a/f && echo 2 > /c/f && cat /a/f\n"
        "RUN --mount=from=a,target=/a --mount=target=/c cat /a/f /c/f > /out\n",
        "-t",
        "written",
    )
    assert context.run("written", "cat", "/out") == "1\n1"
    assert (context.directory / "f").read_text() == "1"


def test_a_cache_mount_lasts_from_build_to_build(context: Context) -> None:
    """A cache keeps what steps put into it, is in no layer, and another id is another cache."""
    dockerfile = (
        "FROM busybox\nARG N\n"
        "RUN --mount=type=cache,id=lasts,target=/c echo $N >> /c/log && cat /c/log > /seen\n"
        "RUN --mount=type=cache,id=else,target=/c,sharing=locked,mode=0700,uid=5 ls -ld /c > /other\n"
    )
    context.docker(dockerfile, "--build-arg", "N=1", "-t", "cached:1")
    context.docker(dockerfile, "--build-arg", "N=2", "-t", "cached:2")
    assert context.run("cached:2", "cat", "/seen") == "1\n2\n"
    assert context.run("cached:2", "cat", "/other").startswith("drwx------    2 5 ")
    assert context.run("cached:2", "sh", "-c", "ls /c 2>&1 | grep -c 'No such'") == "1\n"


def test_a_tmpfs_mount_is_empty_and_of_its_size(context: Context) -> None:
    """A tmpfs has the size that was asked for, and nothing of it stays."""
    context.docker(
        "FROM busybox\nRUN --mount=type=tmpfs,target=/t,size=4m df -k /t | tail -1 > /o; echo 1 > /t/f\n", "-t", "tm"
    )
    assert "4096" in context.run("tm", "cat", "/o")


def test_a_mount_target_is_relative_to_the_working_directory(context: Context) -> None:
    """A relative target is below WORKDIR, and below the root where there is none."""
    mount = "RUN --mount=type=tmpfs,target=t grep -o ' [^ ]*/t tmpfs' /proc/mounts"
    context.docker(f"FROM busybox\n{mount} > /none\nWORKDIR /w/x\n{mount} > /some\n", "-t", "targets")
    assert context.run("targets", "cat", "/none", "/some") == " /t tmpfs\n /w/x/t tmpfs\n"


def test_heredocs_are_scripts_files_and_input(context: Context) -> None:
    """A heredoc is a script for the shell, a program of its own with `#!`, the input of a command, a file of COPY."""
    context.docker(
        "FROM busybox\n"
        "RUN <<EOF\necho one > /a\necho two >> /a\nEOF\n"
        "RUN <<EOF\n#!/bin/cat\nthe script\nEOF\n"
        "RUN cat > /b <<X && cat > /c <<Y\nin b\nX\nin c\nY\n"
        'ARG V=value\nCOPY <<one <<"two" /files/\nv=$V\none\nv=$V\ntwo\n',
        "-t",
        "here",
    )
    shown = context.run("here", "cat", "/a", "/b", "/c", "/files/one", "/files/two")
    assert shown == "one\ntwo\nin b\nin c\nv=value\nv=$V\n"
    assert context.run("here", "sh", "-c", "ls /dev/pipes 2>&1 | grep -c 'No such'") == "1\n"


def test_networks_of_a_step(context: Context) -> None:
    """`--network=none` has only loopback; the host's needs the caller's consent."""
    done = context.docker("FROM busybox\nRUN --network=none ls /sys/class/net\nRUN ls /sys/class/net\n")
    assert "eth0" in done.out
    denied = context.docker("FROM busybox\nRUN --network=host true\n", code=1)
    assert "network.host is not allowed" in denied.err
    insecure = context.docker("FROM busybox\nRUN --security=insecure true\n", code=1)
    assert "security.insecure is not allowed" in insecure.err


def test_user_workdir_and_shell_hold_in_the_step(context: Context) -> None:
    """USER, WORKDIR and SHELL decide who runs where and by what; ARG and ENV what it sees."""
    context.docker(
        "FROM busybox\nARG A=1\nENV B=${A}2\nWORKDIR /w/x\nWORKDIR y\nRUN chmod 777 .\nUSER 7:8\n"
        'SHELL ["/bin/busybox", "sh", "-ec"]\nRUN id -u > who; id -g >> who; pwd >> who; echo $A $B >> who\n',
        "-t",
        "who",
    )
    assert context.run("who", "cat", "/w/x/y/who") == "7\n8\n/w/x/y\n1 12\n"


def test_a_deleted_file_is_deleted_in_the_layer(context: Context) -> None:
    """Deletions, replaced directories and links survive the way through layers."""
    context.docker(
        "FROM busybox\nRUN mkdir -p /d/e && echo 1 > /d/e/f && echo 2 > /d/g && ln -s g /d/l\n"
        "RUN rm -r /d/e && mkdir /d/e && rm /d/g\nRUN ls -R /d > /list\n",
        "-t",
        "gone",
    )
    assert context.run("gone", "cat", "/list") == "/d:\ne\nl\n\n/d/e:\n"


def test_nothing_is_left_of_a_build(context: Context, engine: EngineProcess) -> None:
    """After builds there is no sandbox, no cgroup, no link, no mount and no staged layer."""
    context.write("f", "1")
    context.docker("FROM busybox\nCOPY f /\nRUN --mount=target=/c true\n")
    engine.assert_nothing_runs()
    until(lambda: not os.listdir(engine.roots.ingest), f"no staged layer: {os.listdir(engine.roots.ingest)}")
    until(lambda: not os.listdir(f"{engine.roots.run}/build"), "no places to mount on")


def test_a_client_that_goes_away_ends_its_build(context: Context, engine: EngineProcess) -> None:
    """When the connection breaks off the step is killed, and nothing of it is left."""
    body = tar_of({"Dockerfile": b"FROM busybox\nRUN echo begun; sleep 600\n"})
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(engine.roots.socket)
    sock.settimeout(30)
    head = f"POST /build HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-tar\r\nContent-Length: {len(body)}\r\n\r\n"
    sock.sendall(head.encode() + body)
    seen = b""
    while b"begun" not in seen.partition(b"Running in")[2]:
        seen += sock.recv(65536)
    sock.close()
    until(lambda: not engine.cgroups(), "the step is gone")
    engine.assert_nothing_runs()
