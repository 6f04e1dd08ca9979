"""What must hold when all is quiet: nothing missing, nothing extra, everything works, nothing is left."""

import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tests.cgroups import branches
from tests.chaos.journal import Journal
from tests.chaos.killer import HELPERS
from tests.chaos.model import ABSENT, place_of
from tests.chaos.users import SHARED_NETWORK, User
from tests.e2e.harness import EngineProcess, titles
from tests.e2e.shared import BUSYBOX, ask

_PREDEFINED = {"bridge", "host", "none", SHARED_NETWORK}
_PATIENCE = 40.0
_STOP_SECONDS = 60.0


class Judge:
    """See the module.

    Args:
        engine: which answers, and of which nothing is killed any more.
        users: their models.
        journal: gets the findings.
        port: where the run's service is published.
    """

    def __init__(self, engine: EngineProcess, users: list[User], journal: Journal, port: int) -> None:
        self._engine = engine
        self._users = users
        self._journal = journal
        self._port = port

    def find(self, text: str) -> None:
        """Record a finding."""
        self._journal.find("judge", text)

    # ---- while what is left still runs

    def inventory(self) -> None:
        """Everything is as the models say, and nothing else is there."""
        for user in self._users:
            user.look_at_all()
        names = {one["Names"][0][1:] for one in ask(self._engine, "GET", "/containers/json?all=1")}
        self._equal("containers", names, (b.name for u in self._users for b in u.boxes if ABSENT not in b.may))
        found = {one["Name"] for one in ask(self._engine, "GET", "/networks")}
        wanted = _PREDEFINED | {n.name for u in self._users for n in u.networks if n.here}
        self._equal("networks", found, wanted)
        found = {one["Name"] for one in ask(self._engine, "GET", "/volumes")["Volumes"] or []}
        self._equal("volumes", found, (v.name for u in self._users for v in u.volumes if v.here))
        found = {name for one in ask(self._engine, "GET", "/images/json") for name in one["RepoTags"] or ["<none>"]}
        self._equal("images", found, [BUSYBOX, *(i.name for u in self._users for i in u.images if i.here)])

    def _equal(self, what: str, found: set[str], wanted: Iterable[str]) -> None:
        expected = set(wanted)
        if found != expected:
            self.find(f"{what}: missing {sorted(expected - found)}, extra {sorted(found - expected)}")

    def reachable(self) -> None:
        """Each running container has the addresses that inspect shows, alone, and its published ports answer."""
        addresses = Counter[str]()
        running = {b.name: b for u in self._users for b in u.boxes if b.may == {"running"} and not b.flees}
        for name in running:
            shown = ask(self._engine, "GET", f"/containers/{name}/json")
            place = place_of(shown)
            known = sorted(address for address, _ in place["Networks"].values() if address)
            addresses.update(known)
            inside = _addresses(place["Pid"])
            if inside != known:
                self.find(f"{name} has {inside} inside, inspect shows {known}")
            for binding in place["Ports"].get("80/tcp") or ():
                if ":" not in binding["HostIp"]:
                    self._answers(f"127.0.0.1:{binding['HostPort']}", {name})
        for address, count in addresses.items():
            if count > 1:
                self.find(f"{count} containers have {address}")
        members = {name for name, box in running.items() if box.served}
        if members:
            self._answers(f"127.0.0.1:{self._port}", members)
        self._named(running)

    def _answers(self, place: str, wanted: set[str]) -> None:
        said: list[str] = []

        def answers() -> bool:
            said[:] = [self._engine.run("curl", "-s", "--max-time", "10", f"http://{place}/", code=None).out.strip()]
            return said[0] in wanted

        if not _within(_PATIENCE, answers):
            self.find(f"http://{place}/ answers {said}, not one of {sorted(wanted)}")

    def _named(self, running: dict[str, Any]) -> None:
        """Those on the shared network find one another by name, there or on another network that both are on."""
        here = sorted(name for name, box in running.items() if SHARED_NETWORK in box.networks)
        places = {name: self._places(name) for name in here}
        for asks, asked in zip(here, here[1:] + here[:1], strict=True):
            common = {address for network, address in places[asked].items() if network in places[asks]}
            said = ""

            def found(asks: str = asks, asked: str = asked, common: set[str] = common) -> bool:
                nonlocal said
                said = self._engine.docker("exec", asks, "nslookup", asked, check=False).out
                return any(f"Address: {address}\n" in said for address in common)

            if not _within(_PATIENCE, found):
                self.find(f"{asks} does not find {asked} by name at one of {common}: {said!r}")

    def _places(self, name: str) -> dict[str, str]:
        """The IPv4 addresses of a container by network."""
        shown = place_of(ask(self._engine, "GET", f"/containers/{name}/json"))
        return {network: address for network, (address, _) in shown["Networks"].items()}

    def quiet(self) -> None:
        """Background work has ended, and nothing of what has ended is left, while what lives goes on."""
        engine, roots = self._engine, self._engine.roots
        live = {b.id for u in self._users for b in u.boxes if b.may & {"running", "paused", "restarting"}}
        self._becomes("trash", lambda: sorted(os.listdir(roots.trash))[:5], [])
        settled = {b.id for u in self._users for b in u.boxes if b.may & {"running", "paused"} and not b.flees}
        self._becomes("run directories", lambda: sorted(set(os.listdir(roots.sandboxes)) - live), [])
        self._becomes("cgroups", lambda: sorted({os.path.basename(path) for path in engine.cgroups()} - live), [])
        self._becomes("lost run directories", lambda: sorted(settled - set(os.listdir(roots.sandboxes))), [])
        ours = live | set(HELPERS)
        self._becomes("monitors", lambda: [line for line in titles(engine) if line[2] and line[2] not in ours], [])
        self._becomes("background tasks", self._tasks, [])
        self._becomes("mounts", engine.mounts, [])

    def _tasks(self) -> list[Any]:
        """Background work, without the waits of restart policies: what flees always has one."""
        tasks = ask(self._engine, "GET", "/info")["Background"]["Tasks"]
        return [one for one in tasks if not one["Name"].startswith("restart ")]

    def checked(self) -> None:
        """`wherry system check` finds nothing."""
        done = self._engine.wherry("system", "check", check=False)
        if done.code != 0:
            self.find(f"system check: {done}")

    # ---- when all is removed

    def removed(self) -> None:
        """Remove everything; nothing is left in the data root and the exec root but busybox, and nothing runs."""
        engine, roots = self._engine, self._engine.roots
        for user in self._users:
            for words in user.removal():
                done = engine.docker(*words, check=False)
                if done.code != 0:
                    self.find(f"docker {' '.join(words)}: {done}")
        self._command("network", "rm", SHARED_NETWORK)
        self._becomes("containers", lambda: os.listdir(roots.containers), [])
        self._becomes("volumes", lambda: [n for n in os.listdir(roots.volumes) if not n.startswith(".")], [])
        self._becomes("networks", lambda: [n for n in os.listdir(roots.networks) if not n.endswith(".json")], [])
        self._becomes("trash", lambda: os.listdir(roots.trash)[:5], [])
        self._becomes("ingests", lambda: os.listdir(roots.ingest), [])
        self._becomes("run directories", lambda: os.listdir(roots.sandboxes), [])
        self._becomes("cgroups", lambda: engine.cgroups()[:5], [])
        self._becomes("links", lambda: [name for name in _links(engine) if name != roots.bridge], [])
        self._becomes("monitors", lambda: [line for line in titles(engine) if line[2] not in ("", *HELPERS)], [])
        self._becomes("published ports", lambda: _elements(engine), [])
        self._becomes("background tasks", self._tasks, [])
        self._command("image", "prune", "-f")
        left = [name for one in ask(engine, "GET", "/images/json?all=1") for name in one["RepoTags"] or ["<none>"]]
        if left != [BUSYBOX]:
            self.find(f"images left: {left}")
        self.checked()

    def _command(self, *words: str) -> None:
        done = self._engine.docker(*words, check=False)
        if done.code != 0:
            self.find(f"docker {' '.join(words)}: {done}")

    # ---- when it was stopped

    def stopped(self) -> None:
        """Stop wherryd; nothing of it is left on the machine."""
        engine, roots = self._engine, self._engine.roots
        process = engine.process
        assert process is not None
        began = time.monotonic()
        process.terminate()
        try:
            code = process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.find(f"wherryd has not ended {_STOP_SECONDS} s after SIGTERM")
            return
        engine.process = None
        self._journal.say("judge", f"wherryd ended after {time.monotonic() - began:.2f} s")
        if code != 0:
            self.find(f"wherryd ended with code {code}")
        self._becomes("processes", engine.processes, [])
        self._becomes("links", lambda: _links(engine), [])
        self._becomes("tables", lambda: _tables(engine), [])
        self._becomes("cgroups", lambda: [str(path) for path in branches(roots.scope)], [])
        self._becomes("mounts", engine.mounts, [])
        kept = {"wherryd.lock", "containers", "helpers", "build"}
        files = [str(p.relative_to(roots.run)) for p in Path(roots.run).rglob("*")]
        left = [name for name in files if name not in kept]
        if left:
            self.find(f"exec root: {left}")

    def logged(self) -> None:
        """wherryd met no unexpected error."""
        text = self._engine.log.read_text(errors="replace")
        for word in ("Traceback", "never retrieved", "internal error", "did not end", "past its deadline"):
            if word in text:
                place = text.index(word)
                self.find(f"wherryd's log: {text[max(0, place - 300) : place + 2500]}")

    def _becomes(self, what: str, look: Callable[[], list[Any]], wanted: list[Any]) -> None:
        found: list[list[Any]] = []

        def fits() -> bool:
            found[:] = [look()]
            return found[0] == wanted

        if not _within(_PATIENCE, fits):
            self.find(f"{what}: {found[0]}")


def _within(seconds: float, condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _addresses(pid: int) -> list[str]:
    """The IPv4 addresses that a process's network namespace has, without loopback."""
    command = ["nsenter", "-t", str(pid), "-n", "ip", "-o", "-4", "addr"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line.split() for line in done.stdout.splitlines()]
    return sorted(words[3].partition("/")[0] for words in lines if words[1] != "lo")


def _links(engine: EngineProcess) -> list[str]:
    """This engine's bridges, and what is attached to them."""
    shown = subprocess.run(["ip", "-j", "-d", "link"], capture_output=True, text=True, check=True).stdout
    links = json.loads(shown)
    bridges = {one["ifname"] for one in links if one["ifname"].startswith(f"wh{engine.roots.tag}")}
    return sorted(bridges | {one["ifname"] for one in links if one.get("master") in bridges})


def _elements(engine: EngineProcess) -> list[str]:
    """Published ports in the firewall table."""
    shown = subprocess.run(
        ["nft", "-j", "list", "table", "ip", engine.roots.scope], capture_output=True, text=True, check=False
    )
    if shown.returncode != 0:
        return [shown.stderr]
    maps = [item["map"] for item in json.loads(shown.stdout)["nftables"] if "map" in item]
    return [f"{one['name']}: {one['elem']}" for one in maps if one.get("elem") and "port" in one["name"]]


def _tables(engine: EngineProcess) -> list[str]:
    shown = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    return [line for line in shown.splitlines() if engine.roots.scope in line]
