"""commit and diff against a live engine: both doors, running containers, events, and what stays after a crash."""

import json
import os
import re
import subprocess
import time

import docker as docker_py

from tests.e2e.harness import EngineProcess, until


def events(engine: EngineProcess, since: float, name: str) -> list[str]:
    """What happened to a container."""
    shown = '{{.Action}} {{index .Actor.Attributes "comment"}} {{index .Actor.Attributes "imageRef"}}'
    done = engine.docker(
        "events",
        "--since",
        f"{since:.6f}",
        "--until",
        f"{time.time() + 0.001:.6f}",
        "-f",
        f"container={name}",
        "--format",
        shown,
    )
    return [re.sub(" <no value>| +$", "", line) for line in done.out.splitlines()]


def test_commit_of_a_running_container(engine: EngineProcess) -> None:
    """It is frozen meanwhile, goes on, and its image runs; events tell of it."""
    engine.docker("run", "-d", "--name", "kk", "busybox", "sh", "-c", "echo hi > /made; rm /bin/ls; exec sleep 999")
    until(lambda: "A /made" in engine.docker("diff", "kk").out, "the file is made")
    since = time.time()
    id_ = engine.docker("commit", "-m", "words", "kk", "k:1").out.strip()
    assert events(engine, since, "kk") == ["pause", "unpause", "commit words k:1"]
    assert engine.docker("inspect", "-f", "{{.State.Status}}", "kk").out == "running\n"
    assert engine.docker("run", "--rm", "k:1", "sh", "-c", "cat /made; test ! -e /bin/ls").out == "hi\n"
    found = json.loads(engine.docker("image", "inspect", "k:1").out)[0]
    assert found["Id"] == id_
    assert found["Parent"] == engine.docker("image", "inspect", "-f", "{{.Id}}", "busybox").out.strip()
    since = time.time()
    engine.wherry("commit", "-p=false", "-a", "me", "-c", "CMD cat /made", "kk", "k:2")
    assert events(engine, since, "kk") == ["commit  k:2"]
    assert engine.docker("run", "--rm", "k:2").out == "hi\n"
    assert engine.wherry("diff", "kk").out == engine.docker("diff", "kk").out
    engine.docker("rmi", "k:1", "k:2")


def test_commit_of_a_paused_container_leaves_it_paused(engine: EngineProcess) -> None:
    """Who froze it thaws it."""
    engine.docker("run", "-d", "--name", "kk", "busybox", "sleep", "999")
    engine.docker("pause", "kk")
    engine.docker("commit", "kk", "k:1")
    assert engine.docker("inspect", "-f", "{{.State.Status}}", "kk").out == "paused\n"
    engine.docker("rmi", "k:1")


def test_commit_of_a_container_that_is_just_ending(engine: EngineProcess) -> None:
    """Whether it still ran when it was to be frozen does not matter to who asks for an image."""
    client = docker_py.APIClient(base_url=engine.host)
    try:
        for _ in range(20):
            id_ = client.create_container("busybox", ["touch", "/made"])["Id"]
            client.start(id_)
            client.commit(id_, "k", tag="1")
            client.wait(id_)
            assert engine.docker("diff", id_).out == "A /made\n"
            client.remove_container(id_)
    finally:
        client.close()
    engine.docker("rmi", "k:1")
    engine.docker("image", "prune", "-f")


def test_commit_again_is_the_same_layer(engine: EngineProcess) -> None:
    """Two commits of the same tree share their layer: diff ids are of what is in it, not of when it was made."""
    engine.docker("run", "--name", "kk", "busybox", "sh", "-c", "echo x > /x; ln -s x /y")
    ids = [engine.docker("commit", "kk", name).out for name in ("k:1", "k:2")]
    assert ids[0] != ids[1]
    layers = [
        json.loads(engine.docker("image", "inspect", "-f", "{{json .RootFS.Layers}}", i.strip()).out) for i in ids
    ]
    assert layers[0] == layers[1]
    assert len(layers[0]) == 2
    engine.docker("rmi", "k:1", "k:2")


def test_commit_keeps_what_files_are(engine: EngineProcess) -> None:
    """Owners, modes, setuid, hard links, devices, opaque directories come back in a container of the image."""
    script = (
        "mkdir -p /t/sub; echo a > /t/f; ln /t/f /t/g; chmod 4711 /t/f; mknod /t/dev c 1 3; mkfifo -m 620 /t/p;"
        "chown 3:4 /t/sub; ln -s nowhere /t/s; rm -r /home; mkdir /home; touch -d 2001-02-03 /t/sub"
    )
    look = "stat -c '%n %a %u %g %h %F %Y' /t /t/*; ls /home; readlink /t/s"
    engine.docker("run", "--name", "kk", "busybox", "sh", "-c", script)
    before = engine.docker("run", "--name", "kk2", "busybox", "sh", "-c", f"{script}; {look}").out
    engine.docker("commit", "kk", "k:1")
    after = engine.docker("run", "--rm", "k:1", "sh", "-c", look).out
    drop = re.compile(r" \d+$", re.M)
    assert drop.sub("", after) == drop.sub("", before)
    engine.docker("rmi", "k:1")


def test_nothing_is_left_of_a_commit_that_fails(engine: EngineProcess) -> None:
    """A file name that no layer can hold: the error names it, no blob and no snapshot stays, and it runs on."""
    engine.docker("run", "-d", "--name", "kk", "busybox", "sh", "-c", "touch /tmp/.wh.x; exec sleep 999")
    until(lambda: ".wh.x" in engine.docker("diff", "kk").out, "the file is made")
    before = sorted(str(path) for path in engine.base.glob("data/[bis]*/*/*"))
    refused = engine.docker("commit", "kk", "k:1", code=1)
    assert "tmp/.wh.x" in refused.err
    assert sorted(str(path) for path in engine.base.glob("data/[bis]*/*/*")) == before
    assert engine.docker("inspect", "-f", "{{.State.Status}}", "kk").out == "running\n"


def test_an_engine_killed_in_a_commit_leaves_nothing(own_engine: EngineProcess) -> None:
    """`kill -9` while the workers write: the next engine starts, the container is as it was, and the store is whole."""
    engine = own_engine
    script = "for i in $(seq 200); do head -c 200000 /dev/urandom > /f$i; done"
    engine.docker("run", "--name", "kk", "busybox", "sh", "-c", script)
    for _ in range(2):
        client = subprocess.Popen(
            ["docker", "commit", "kk", "k:1"], env=engine.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(lambda: os.listdir(engine.roots.ingest), "the commit has begun")
        engine.kill()
        client.wait(20)
        engine.start()
        assert engine.docker("images", "-q", "k").out == ""
        until(lambda: not os.listdir(engine.roots.ingest), "nothing of it is left")
    assert "all whole" in engine.wherry("system", "check").out
    engine.docker("commit", "kk", "k:1")
    assert engine.docker("run", "--rm", "k:1", "sh", "-c", "ls / | grep -c ^f").out == "200\n"
    assert "all whole" in engine.wherry("system", "check").out
    engine.docker("rmi", "k:1")
    engine.assert_no_traceback()
