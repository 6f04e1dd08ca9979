"""netd answers names: as Docker's embedded server does, whatever it is sent, and while others die."""

import asyncio
import os
import random
import re
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from wherry.linux.mount import make_all_slave
from wherry.linux.namespace import CLONE_NEWNS, unshare
from wherry.network.dns_message import NOERROR, SERVFAIL
from wherry.networking.netd import NetdLine
from wherry.paths import Roots

from .conftest import kill, until
from .lab import AAAA, PTR, A, Lab, Sandbox, Upstream, ask_on, open_lab, query

pytestmark = pytest.mark.root

Test = Callable[[Lab], Awaitable[None]]
MX = 15


@pytest.fixture
def in_lab(roots: Roots) -> Callable[[Test], None]:
    """Run an async test in a lab."""

    def run(test: Test) -> None:
        async def main() -> None:
            async with open_lab(roots) as lab:
                await test(lab)

        asyncio.run(main())

    return run


def _two(lab: Lab) -> Sandbox:
    lab.network("n1", "Net.one")
    lab.member("n1", "c1", ["web", "alias", "0123456789ab"], "10.1.0.2", "fd00::2")
    lab.member("n1", "c2", ["db", "alias"], "10.1.0.3")
    return lab.sandbox("n1")


def test_names_are_answered_as_docker_does(in_lab: Callable[[Test], None]) -> None:
    """Names, aliases, short ids, `name.network`, any case; what has no such address is empty, not unknown; PTR."""

    async def test(lab: Lab) -> None:
        box = _two(lab)
        for name in ("web", "WEB", "0123456789ab", "web.net.one", "web."):
            answer = await box.ask(name)
            assert (answer.code, answer.records) == (NOERROR, [(A, 600, "10.1.0.2")]), name
        assert (await box.ask("web", AAAA)).values == ["fd00::2"]
        for kind in (AAAA, MX):
            answer = await box.ask("db", kind)
            assert (answer.code, answer.records) == (NOERROR, [])
        assert {tuple((await box.ask("alias")).values) for _ in range(4)} == {
            ("10.1.0.2", "10.1.0.3"),
            ("10.1.0.3", "10.1.0.2"),
        }
        assert (await box.ask("2.0.1.10.in-addr.arpa", PTR)).values == ["web.net.one"]
        reverse = ".".join(reversed("fd00000000000000000000000000" + "0002"))
        assert (await box.ask(f"{reverse}.ip6.arpa", PTR)).values == ["web.net.one"]
        assert (await box.ask("nobody")).code == SERVFAIL
        assert (await box.ask("9.0.1.10.in-addr.arpa", PTR)).code == SERVFAIL
        answer = await box.ask("web", tcp=True)
        assert (answer.code, answer.values) == (NOERROR, ["10.1.0.2"])

    in_lab(test)


def test_what_changes_is_seen_at_once(in_lab: Callable[[Test], None]) -> None:
    """A member that was told before the question is in its answer; one that was withdrawn is not."""

    async def test(lab: Lab) -> None:
        box = _two(lab)
        await box.ask("web")
        for number in range(30):
            lab.member("n1", "c3", ["late"], f"10.1.1.{number}")
            assert (await box.ask("late")).values == [f"10.1.1.{number}"]
        lab.line.send({"op": "no-member", "network": "n1", "container": "c3"})
        assert (await box.ask("late")).code == SERVFAIL
        lab.line.send({"op": "no-network", "id": "n1"})
        assert (await box.ask("web")).code == SERVFAIL

    in_lab(test)


def test_a_container_sees_its_own_networks_and_links_only(in_lab: Callable[[Test], None]) -> None:
    """Names of other networks are unknown; the first network of several wins; a link is one container's own name."""

    async def test(lab: Lab) -> None:
        lab.network("n1", "one")
        lab.network("n2", "two")
        lab.member("n1", "c1", ["web"], "10.1.0.2")
        lab.member("n2", "c2", ["web", "db"], "10.2.0.2")
        one, both = lab.sandbox("n1"), lab.sandbox("n2", "n1", links={"Store": "c1"})
        assert (await one.ask("web")).values == ["10.1.0.2"]
        for name in ("db", "web.two", "store"):
            assert (await one.ask(name)).code == SERVFAIL
        assert (await both.ask("web")).values == ["10.2.0.2"]
        assert (await both.ask("web.one")).values == ["10.1.0.2"]
        assert (await both.ask("store")).values == ["10.1.0.2"]

    in_lab(test)


def test_what_does_not_fit_is_truncated(in_lab: Callable[[Test], None]) -> None:
    """100 addresses: cut at 512 bytes, or at what EDNS allows, and whole by TCP."""

    async def test(lab: Lab) -> None:
        lab.network("n1", "one")
        for number in range(100):
            lab.member("n1", f"c{number}", ["many"], f"10.1.0.{number + 1}")
        box = lab.sandbox("n1")
        plain, edns = await box.ask("many"), await box.ask("many", size=1232)
        whole = await box.ask("many", tcp=True)
        assert plain.truncated
        assert len(plain.data) <= 512
        assert edns.truncated
        assert 512 < len(edns.data) <= 1232
        assert not whole.truncated
        assert len(set(whole.values)) == 100

    in_lab(test)


def test_other_names_are_asked_of_upstream_servers(in_lab: Callable[[Test], None]) -> None:
    """From the container's own namespace, by UDP and TCP; a dead server is passed over; guessed answers are ignored."""

    async def test(lab: Lab) -> None:
        lab.network("n1", "one")
        box = lab.sandbox("n1", forward=True, servers=["10.9.9.1", "10.9.9.9"])
        box.add_address("10.9.9.1")  # nobody listens there
        upstream = Upstream(box, "10.9.9.9")
        try:
            assert (await box.ask("example.org")).records == [(A, 60, "192.0.2.53")]
            assert (await box.ask("example.org", tcp=True)).values == ["192.0.2.53"]
            upstream.big = True
            assert (await box.ask("example.org")).truncated
            assert len((await box.ask("example.org", tcp=True)).records) == 100
            assert all(data[:2] != b"\x12\x34" for data in upstream.asked), "the id is netd's own"
            lab.tell_asker(box, "n1", forward=True, servers=["10.9.9.9"], dotted_only=True)
            before = len(upstream.asked)
            answer = await box.ask("single")
            assert (answer.code, answer.records, len(upstream.asked)) == (NOERROR, [], before)
        finally:
            upstream.close()

    in_lab(test)


def test_the_hosts_servers_are_read_again(roots: Roots, tmp_path: Path) -> None:
    """A container without servers of its own asks the host's; once resolv.conf names others, it asks those."""
    hosts = tmp_path / "resolv.conf"
    hosts.write_text("nameserver 10.9.9.1\n")

    async def test() -> None:
        async with open_lab(roots) as lab:
            lab.network("n1", "one")
            box = lab.sandbox("n1", forward=True)
            before, after = Upstream(box, "10.9.9.1"), Upstream(box, "10.9.9.2")
            try:
                assert (await box.ask("example.org")).values == ["192.0.2.53"]
                assert before.asked and not after.asked
                hosts.write_text("nameserver 10.9.9.2\n")
                async with asyncio.timeout(20):
                    while not after.asked:  # netd looks at the file every two seconds
                        assert (await box.ask("example.org")).values == ["192.0.2.53"]
                        await asyncio.sleep(0.05)
            finally:
                before.close()
                after.close()

    def run() -> None:
        # the file is in a mount namespace of this thread's, which all that it starts shares
        unshare(CLONE_NEWNS)
        make_all_slave()
        subprocess.run(["mount", "--bind", str(hosts), "/etc/resolv.conf"], check=True)
        asyncio.run(test())

    with ThreadPoolExecutor(1) as thread:
        thread.submit(run).result()


def test_an_internal_network_asks_no_upstream_cve_2024_29018(in_lab: Callable[[Test], None]) -> None:
    """No question of a container in internal networks only leaves it, by whatever way, type or spelling."""

    async def test(lab: Lab) -> None:
        lab.network("n1", "one")
        lab.member("n1", "c1", ["web"], "10.1.0.2")
        box = lab.sandbox("n1", forward=False, servers=["10.9.9.9"])
        upstream = Upstream(box, "10.9.9.9")
        try:
            for name in ("secret.example.org", "web.example.org", "1.2.3.4.in-addr.arpa", ""):
                for kind in (A, AAAA, PTR, 16, 255):
                    for tcp in (False, True):
                        assert (await box.ask(name, kind, tcp=tcp)).code == SERVFAIL
            assert (await box.ask("web", klass=3)).code == SERVFAIL
            assert (await box.ask("web")).values == ["10.1.0.2"]
            assert upstream.asked == []
        finally:
            upstream.close()

    in_lab(test)


def test_a_container_may_listen_on_port_53_itself(in_lab: Callable[[Test], None]) -> None:
    """On all addresses, while names go on being answered at 127.0.0.11."""

    async def test(lab: Lab) -> None:
        box = _two(lab)
        own = box.socket()
        own.bind(("0.0.0.0", 53))
        listening = box.socket(socket.SOCK_STREAM)
        listening.bind(("0.0.0.0", 53))
        listening.listen()
        client = box.socket()
        client.sendto(b"mine", ("127.0.0.1", 53))
        assert own.recv(100) == b"mine"
        assert (await box.ask("web")).values == ["10.1.0.2"]
        assert (await box.ask("web", tcp=True)).values == ["10.1.0.2"]

    in_lab(test)


def test_names_outlive_wherryd_and_a_later_one_says_all_again(in_lab: Callable[[Test], None]) -> None:
    """Without a line everything is answered; half a retelling changes nothing; a whole one replaces all at its end."""

    async def test(lab: Lab) -> None:
        box = _two(lab)
        await lab.line.sync()
        lab.line.close()
        assert (await box.ask("web")).values == ["10.1.0.2"]
        lab.line = NetdLine(lab.helper.run_dir, lambda: None)
        lab.line.send({"op": "begin"})
        await lab.line.sync()
        lab.line.close()  # killed in the midst of it
        assert (await box.ask("web")).values == ["10.1.0.2"]
        lab.line = NetdLine(lab.helper.run_dir, lambda: None)
        lab.line.send({"op": "begin"})
        lab.network("n2", "two")
        lab.member("n2", "c1", ["web"], "10.2.0.2")
        lab.tell_asker(box, "n2")
        assert (await lab.line.sync())["sandboxes"] == [box.id]
        assert (await box.ask("web")).values == ["10.1.0.2"]
        lab.line.send({"op": "commit"})
        assert (await box.ask("web")).values == ["10.2.0.2"]
        assert (await box.ask("db")).code == SERVFAIL

    in_lab(test)


def test_the_sockets_survive_netd(in_lab: Callable[[Test], None]) -> None:
    """What is asked while netd is dead is answered by the next one, from the same sockets."""

    async def test(lab: Lab) -> None:
        box = _two(lab)
        await lab.line.sync()
        old = lab.helper.pid
        kill(old)
        lab.line.close()
        sock = box.socket()
        sock.sendto(query("web"), ("127.0.0.11", 53))
        await until(lambda: lab.helper.pid not in (0, old), "netd runs again")
        lab.line = NetdLine(lab.helper.run_dir, lambda: None)
        lab.network("n1", "one")
        lab.member("n1", "c1", ["web"], "10.1.0.7")
        lab.tell_asker(box, "n1")
        box.lend()
        assert bytes([10, 1, 0, 7]) in await asyncio.to_thread(sock.recv, 512)

    in_lab(test)


def test_netd_lets_go_when_the_monitor_does(in_lab: Callable[[Test], None]) -> None:
    """The channel's end closes netd's copies: it keeps no namespace alive."""

    async def test(lab: Lab) -> None:
        box = _two(lab)
        await box.ask("web")
        assert (await lab.line.sync())["sandboxes"] == [box.id]
        lab.in_loop(box.resolver.close)
        await lab.let_go(box)

    in_lab(test)


def test_hostile_messages_get_an_error_or_nothing(in_lab: Callable[[Test], None]) -> None:
    """Noise, loops, lies about lengths, answers in place of questions, by UDP and TCP: netd goes on, as the same."""

    async def test(lab: Lab) -> None:
        box = _two(lab)
        pid = lab.helper.pid
        rng = random.Random(7)
        sock = box.socket()
        head = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
        hostile = [
            b"",
            b"\0",
            head,
            head + b"\xc0\x0c\0\x01\0\x01",  # a name that points at itself
            head + b"\x3f" + b"a" * 10,
            head + b"\x01a" * 200 + b"\0\0\x01\0\x01",
            b"\x12\x34\x81\x80" + head[4:] + b"\x03web\0\0\x01\0\x01",
            head[:4] + b"\xff\xff\xff\xff\xff\xff\xff\xff" + b"\0" * 500,
            query("web") + b"x" * 60000,
            *(rng.randbytes(rng.randrange(600)) for _ in range(300)),
            *(head + rng.randbytes(rng.randrange(60)) for _ in range(300)),
        ]
        for data in hostile:
            sock.sendto(data, ("127.0.0.11", 53))
        for data in hostile[::20]:
            stream = box.socket(socket.SOCK_STREAM)
            stream.connect(("127.0.0.11", 53))
            stream.sendall(len(data).to_bytes(2, "big") + data if len(data) < 65536 else data)
        assert (await box.ask("web")).values == ["10.1.0.2"]
        assert (await box.ask("web", tcp=True)).values == ["10.1.0.2"]
        assert lab.helper.pid == pid

    in_lab(test)


def test_netd_is_small_and_has_no_powers(in_lab: Callable[[Test], None]) -> None:
    """No capability, another user, no way back; a few megabytes with 20 sandboxes."""

    async def test(lab: Lab) -> None:
        for number in range(20):
            lab.member("n1", f"c{number}", [f"web{number}"], f"10.1.0.{number + 1}")
            await lab.sandbox("n1").ask("web1")
        pid = lab.helper.pid
        status = Path(f"/proc/{pid}/status").read_text()
        assert re.search(r"^Uid:\s+65534\s+65534\s+65534", status, re.MULTILINE)
        for field in ("CapPrm", "CapEff", "CapBnd", "CapInh"):
            assert re.search(rf"^{field}:\s+0+$", status, re.MULTILINE), field
        assert "NoNewPrivs:\t1" in status
        found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
        assert found is not None
        assert int(found[1]) < 8 * 1024

    in_lab(test)


def test_a_burst_of_questions_is_answered(in_lab: Callable[[Test], None]) -> None:
    """200 containers of one network, 3,000 questions one after the other: none is lost, most take under 5 ms."""

    async def test(lab: Lab) -> None:
        lab.network("n1", "one")
        for number in range(200):
            lab.member("n1", f"c{number}", [f"web{number}", f"{number:012x}"], f"10.1.1.{number + 1}")
        box = lab.sandbox("n1")

        def burst() -> list[float]:
            sock = box.socket()
            times = []
            for number in range(3000):
                begun = time.perf_counter()
                answer = ask_on(sock, query(f"web{number % 200}", id_=number))
                times.append(time.perf_counter() - begun)
                assert answer.values == [f"10.1.1.{number % 200 + 1}"]
            return sorted(times)

        times = await asyncio.to_thread(burst)
        rate = len(times) / sum(times)
        print(f"\n{rate:.0f} a second, p50 {times[1500] * 1e3:.2f} ms, p99 {times[2970] * 1e3:.2f} ms")
        assert times[2700] < 0.005 * (1 + os.getloadavg()[0])

    in_lab(test)
