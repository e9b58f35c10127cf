"""Reads Istio's Gateway (networking.istio.io)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from mockservice.mesh.model import Pairs, selects

if TYPE_CHECKING:
    from mockservice.mesh.fields import Fields


GATEWAY_LABELS: Final = (("app", "istio-ingressgateway"), ("istio", "ingressgateway"))
"""The labels of the gateway that Istio installs by default."""
SERVED_PLAINLY: Final = "local lanes serve these hosts by plain HTTP"
"""What there is to tell of certificates."""
GATEWAY_NAMESPACE: Final = "istio-system"
"""Its namespace."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """An ingress gateway and the hosts that it serves."""

    name: str
    namespace: str
    hosts: tuple[str, ...]
    """`NAMESPACE/HOST` is for the routes of one namespace only."""
    labels: Pairs = ()
    allowed_namespace: str | None = None
    """The only namespace whose routes may attach to it; None for any namespace."""
    sections: Pairs = ()
    """Its listeners by name, of the Gateway API, and the host of each."""


@dataclass(frozen=True, slots=True)
class Ingress:
    """All ingress gateways. Local lanes serve them on one port."""

    gateways: list[Gateway] = field(default_factory=list)
    ports: set[int] = field(default_factory=set)
    tls_ports: set[int] = field(default_factory=set)

    def add_port(self, fields: Fields, name: str, is_tls: bool) -> None:
        """Add a gateway's port, which must be the same for all gateways that serve plain HTTP."""
        number = fields.number(name, 0)
        if is_tls:
            self.tls_ports.add(number)
            return
        self.ports.add(number)
        if len(self.ports) > 1:
            fields.refuse(name, f"{number}: must be the same port for all gateways in local lanes")

    @property
    def port(self) -> int | None:
        """The port of all gateways; None where there is no gateway.

        What is served with certificates on a cluster is served at the same one here.
        """
        return next(iter(sorted(self.ports) or sorted(self.tls_ports)), None)

    def hosts(
        self,
        name: str,
        namespace: str,
        hosts: tuple[str, ...],
        route_namespace: str | None = None,
        section: str | None = None,
    ) -> tuple[str, ...] | None:
        """Return the part of the requested hosts that a gateway serves.

        Args:
            name: the gateway's name.
            namespace: the gateway's namespace.
            hosts: the hosts of a route; each may start with a wildcard.
            route_namespace: where the route is; None: where it may attach, for all hosts.
            section: the only listener that counts; None for all of them.

        Returns:
            The hosts, or None if there is no such gateway or the route may not attach to it.
        """
        for gateway in self.gateways:
            if (gateway.name, gateway.namespace) == (name, namespace):
                if route_namespace and gateway.allowed_namespace not in (None, route_namespace):
                    return None
                served = gateway.hosts
                if section is not None:
                    served = tuple(host for known, host in gateway.sections if known == section)
                    if not served:
                        return None
                parts = [host.rpartition("/") for host in served]
                own = {"", "*", route_namespace or ""}
                served = tuple(
                    host for of, _, host in parts if route_namespace is None or of in own
                )
                common = (_narrower(one, other) for one in hosts for other in served)
                return tuple(dict.fromkeys(host for host in common if host))
        return None


def _narrower(one: str, other: str) -> str | None:
    """Return the intersection of two hosts that may start with a wildcard."""
    for wide, narrow in ((one, other), (other, one)):
        if wide == narrow or (wide.startswith("*") and narrow.endswith(wide[1:])):
            return narrow
    return None


def read_gateway(spec: Fields, name: str, namespace: str, ingress: Ingress) -> None:
    """Read a Gateway's `spec` and add it to the ingress."""
    with spec:
        labels = spec.pairs("selector")
        if not selects(labels, GATEWAY_LABELS):
            wanted = " or ".join(f"{name}: {value}" for name, value in GATEWAY_LABELS)
            spec.refuse("selector", f"selects no gateway: the one of local lanes has {wanted}")
        hosts: list[str] = []
        port_names: set[str] = set()
        for server in spec.objects("servers"):
            with server:
                server.ignore("name")
                with server.object("port") as port:
                    port_name = port.text("name")
                    if port_name in port_names:
                        port.refuse("name", f"{port_name!r}: must be that of one server only")
                    port_names.add(port_name)
                    protocols = ("HTTP", "HTTP2", "GRPC", "HTTPS")
                    is_tls = port.text("protocol", allowed=protocols) == "HTTPS"
                    ingress.add_port(port, "number", is_tls)
                _read_tls(server, is_tls)
                hosts += [
                    f"{namespace}/{host[2:]}" if host.startswith("./") else host
                    for host in server.texts("hosts")
                ]
    ingress.gateways.append(Gateway(name, namespace, tuple(hosts), labels))


def _read_tls(server: Fields, is_tls: bool) -> None:
    if not is_tls:
        with server.object("tls") as tls:
            if tls.flag("httpsRedirect"):
                server.note("tls", f"the redirect to HTTPS is left out: {SERVED_PLAINLY}")
        return
    if "tls" not in server:
        server.refuse("tls", "must be set for HTTPS")
        return
    modes = ("SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL", "ISTIO_MUTUAL")
    server.object("tls").text("mode", allowed=modes)
    server.note("tls", f"certificates are left out: {SERVED_PLAINLY}")
