"""/etc/hosts, /etc/hostname and /etc/resolv.conf of a container."""

from pathlib import Path

import pytest

from wherry.errors import InvalidArgument
from wherry.network.files import parse_extra_hosts, render_hostname, render_hosts
from wherry.network.resolver import ResolvConf, host_resolver, parse, render_resolv_conf

BASE = (
    "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n"
    "ff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
)


def test_hosts_are_dockerds() -> None:
    """The usual lines, then --add-host, then the container's own address, as dockerd 26 writes them."""
    extra = parse_extra_hosts(["a:1.2.3.4", "g:host-gateway", "six=[::1]"], "172.17.0.1")
    shown = render_hosts("hh", ["172.17.0.2"], domainname="dd.example", extra=extra)
    assert shown == BASE + "1.2.3.4\ta\n172.17.0.1\tg\n::1\tsix\n172.17.0.2\thh.dd.example hh\n"
    assert render_hosts("hh") == BASE
    assert render_hosts("hh", base="127.0.0.1 x", extra=[("a", "1.2.3.4")]) == "127.0.0.1 x\n1.2.3.4\ta\n"
    assert render_hostname("hh") == "hh\n"


@pytest.mark.parametrize("entry", ["a", "a:", ":1.2.3.4", "a b:1.2.3.4", "a\n9.9.9.9 b:1.2.3.4", "#a:1.2.3.4"])
def test_extra_hosts_of_the_wrong_form(entry: str) -> None:
    """What is not name:address, or would write another line, is refused in Docker's words."""
    with pytest.raises(InvalidArgument, match="bad format for add-host"):
        parse_extra_hosts([entry])


def test_extra_hosts_without_an_address() -> None:
    """A wrong address is named; host-gateway needs a gateway."""
    with pytest.raises(InvalidArgument, match='invalid IP address in add-host: "bar"'):
        parse_extra_hosts(["foo:bar"])
    with pytest.raises(InvalidArgument, match="host-gateway"):
        parse_extra_hosts(["foo:host-gateway"])


def test_resolv_conf_is_read_with_comments_and_nonsense() -> None:
    """Comments, unknown words and wrong addresses are left out; the last search counts."""
    text = "# c\nnameserver 10.0.0.1 # x\nnameserver nope\nnameserver fe80::1%eth0\n"
    text += "search a b\ndomain c\n;x\noptions ndots:2\nsortlist 1"
    found = parse(text)
    assert (found.nameservers, found.search, found.options) == (["10.0.0.1", "fe80::1%eth0"], ["c"], ["ndots:2"])


def test_loopback_resolvers_are_replaced(tmp_path: Path) -> None:
    """systemd-resolved's stub gives way to what is behind it; other loopback servers go; nothing left: the defaults."""
    etc, resolved = tmp_path / "etc", tmp_path / "resolved"
    etc.write_text("nameserver 127.0.0.53\noptions edns0\nsearch lan\n")
    assert host_resolver(str(etc), str(resolved)).nameservers == ["127.0.0.53"]
    resolved.write_text("nameserver 10.1.1.1\nnameserver fd00::1\nsearch lan\n")
    host = host_resolver(str(etc), str(resolved))
    assert render_resolv_conf(host) == "nameserver 10.1.1.1\nsearch lan\n"
    assert render_resolv_conf(host, ipv6=True) == "nameserver 10.1.1.1\nnameserver fd00::1\nsearch lan\n"
    local = ResolvConf(["127.0.0.1", "10.2.2.2", "::1"], ["lan"], ["edns0"])
    assert render_resolv_conf(local) == "nameserver 10.2.2.2\nsearch lan\noptions edns0\n"
    assert render_resolv_conf(ResolvConf(["127.0.0.1"])) == "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"
    assert render_resolv_conf(ResolvConf(["127.0.0.1"]), same_namespace=True) == "nameserver 127.0.0.1\n"
    assert host_resolver(str(tmp_path / "none"), str(resolved)).nameservers == []


def test_dns_flags_override() -> None:
    """--dns, --dns-search and --dns-option replace the host's, each for itself; `.` is the search in no domain."""
    host = ResolvConf(["10.0.0.1"], ["lan"], ["edns0"])
    assert (
        render_resolv_conf(host, dns=["127.0.0.11"], search=["."]) == "nameserver 127.0.0.11\nsearch .\noptions edns0\n"
    )
    shown = render_resolv_conf(host, search=["a", "b"], options=["ndots:1"])
    assert shown == "nameserver 10.0.0.1\nsearch a b\noptions ndots:1\n"
    with pytest.raises(InvalidArgument):
        render_resolv_conf(host, dns=["x"])
    for wrong in ("a\nnameserver 6.6.6.6", "a b", ""):
        with pytest.raises(InvalidArgument):
            render_resolv_conf(host, search=[wrong])
        with pytest.raises(InvalidArgument):
            render_resolv_conf(host, options=[wrong])
