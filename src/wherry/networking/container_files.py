"""The files that a sandbox brings along: /etc/hosts, /etc/hostname, /etc/resolv.conf."""

from collections.abc import Callable, Sequence

from wherry.config import EngineConfig
from wherry.containers.model import Container
from wherry.network.endpoint import Endpoint
from wherry.network.files import parse_extra_hosts, render_hostname, render_hosts
from wherry.network.resolver import host_resolver, render_embedded, render_resolv_conf

Files = Callable[[], dict[str, str]]


class ContainerFiles:
    """Makes the files of one engine's sandboxes.

    Args:
        config: the engine's settings.
        gateway: what `host-gateway` means: the host's address on the default bridge.
        linked: what `--link` adds to a container's hosts file: `(names, address)`.
    """

    def __init__(
        self,
        config: EngineConfig,
        gateway: Callable[[], str],
        linked: Callable[[Container], Sequence[tuple[str, str]]],
    ) -> None:
        self._config = config
        self._gateway = gateway
        self._linked = linked

    def _host(self) -> str:
        """What `host-gateway` means."""
        return self._config.host_gateway_ip or self._gateway()

    def hosts(self, container: Container, endpoints: Sequence[Endpoint], *, same_namespace: bool = False) -> str:
        """Write /etc/hosts; with the host's network, the host's own is the beginning."""
        record = container.record
        base = None
        if same_namespace:
            with open("/etc/hosts", encoding="utf-8", errors="surrogateescape") as file:
                base = file.read()
        return render_hosts(
            record.config.hostname,
            [address for endpoint in endpoints for address in (endpoint.address, endpoint.address6) if address],
            domainname=record.config.domainname,
            extra=[*parse_extra_hosts(record.host_config.extra_hosts or [], self._host()), *self._linked(container)],
            base=base,
        )

    def resolv_conf(self, container: Container, endpoints: Sequence[Endpoint], *, same_namespace: bool = False) -> str:
        """Write /etc/resolv.conf."""
        host = container.record.host_config
        search = host.dns_search or self._config.dns_search
        options = host.dns_options or self._config.dns_options
        if any(not endpoint.default_bridge for endpoint in endpoints):
            return render_embedded(host_resolver(), search=search, options=options)
        return render_resolv_conf(
            host_resolver(),
            dns=host.dns or self._config.dns,
            search=search,
            options=options,
            same_namespace=same_namespace,
            ipv6=any(endpoint.address6 for endpoint in endpoints),
        )

    def all(
        self, container: Container, endpoints: Sequence[Endpoint], *, same_namespace: bool = False
    ) -> dict[str, str]:
        """Write all of them, by name."""
        return {
            "hosts": self.hosts(container, endpoints, same_namespace=same_namespace),
            "hostname": render_hostname(container.record.config.hostname),
            "resolv.conf": self.resolv_conf(container, endpoints, same_namespace=same_namespace),
        }
