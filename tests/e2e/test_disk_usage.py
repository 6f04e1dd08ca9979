"""`system df` and du(1) say the same."""

import json
import os
import subprocess
from typing import Any

from tests.e2e.harness import EngineProcess, until


def du(*paths: str) -> int:
    """What du(1) counts, in bytes."""
    done = subprocess.run(["du", "-scB1", *paths], capture_output=True, check=True)
    return int(done.stdout.split()[-2])


def df(engine: EngineProcess, query: str = "") -> dict[str, Any]:
    """The API's answer."""
    url = f"http://d/v1.45/system/df{query}"
    answer: dict[str, Any] = json.loads(engine.run("curl", "-s", "--unix-socket", engine.roots.socket, url).out)
    return answer


def test_agrees_with_du(own_engine: EngineProcess) -> None:
    """Images, containers with their logs, volumes: sums and parts, before and after a removal."""
    engine = own_engine
    engine.docker(
        "run", "--name", "one", "-v", "vol:/v", "busybox", "sh", "-c", "head -c 300000 /dev/zero > /x; echo 1 > /v/y"
    )
    engine.docker("commit", "one", "k:1")
    engine.docker("run", "-d", "--name", "two", "k:1", "sh", "-c", "seq 50000; exec sleep 999")
    until(lambda: engine.docker("logs", "-n", "1", "two").out == "50000\n", "all is logged")
    data = engine.roots.data

    def compare() -> dict[str, Any]:
        found = df(engine)
        parts = [f"{engine.roots.snapshots}/{name}" for name in os.listdir(engine.roots.snapshots) if len(name) == 64]
        parts += [f"{data}/blobs/sha256/{name}" for name in os.listdir(f"{data}/blobs/sha256")]
        assert found["LayersSize"] == du(*parts, engine.roots.ingest)
        for container in found["Containers"]:
            assert container["SizeRw"] == du(engine.roots.container(container["Id"]))
        for volume in found["Volumes"]:
            assert volume["UsageData"]["Size"] == du(volume["Mountpoint"])
        return found

    first = compare()
    assert sorted(image["Containers"] for image in first["Images"]) == [1, 1]
    small, large = sorted(first["Images"], key=lambda image: image["Size"])
    assert large["Size"] - large["SharedSize"] > 4096  # the blob that it adds
    assert small["Size"] - small["SharedSize"] < 20000  # a config and a manifest
    assert large["SharedSize"] == small["SharedSize"]
    unique = sum(image["Size"] - image["SharedSize"] for image in first["Images"])
    assert first["LayersSize"] == unique + large["SharedSize"] + du(engine.roots.ingest)
    logged = next(c for c in first["Containers"] if c["Names"] == ["/two"])
    assert logged["SizeRw"] > 50000 * 6
    # all but the two images' parts is free: nothing
    assert first["ImagesReclaimable"] == du(engine.roots.ingest)
    engine.docker("rm", "-f", "two")
    engine.docker("rmi", "k:1")
    second = compare()
    assert second["LayersSize"] < first["LayersSize"]
    assert len(second["Images"]) == 1


def test_types(engine: EngineProcess) -> None:
    """Only what is asked for is measured; another type is an error; both commands print it."""
    found = df(engine, "?type=volume&type=container")
    assert (found["Images"], found["BuildCache"], found["Volumes"]) == (None, None, [])
    assert df(engine, "?type=nope") == {"message": "unknown object type: nope"}
    for flags in ((), ("-v",), ("--format", "{{.Type}} {{.TotalCount}} {{.Size}}"), ("-v", "--format", "json")):
        ours, theirs = engine.wherry("system", "df", *flags).out, engine.docker("system", "df", *flags).out
        cut = len(ours) if flags else theirs.index("RECLAIMABLE")
        assert ours[:cut] == theirs[:cut]
    assert "can't evaluate field Nope" in engine.wherry("system", "df", "-v", "--format", "{{.Nope}}", code=1).err
