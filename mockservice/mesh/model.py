"""The mesh: what the manifests of every kind come down to, as plain frozen data.

Hosts are full names (`mocka.default.svc.cluster.local`), times are seconds, labels are pairs in
the order of their names. A `source` says where the manifests have it; it does not count when two
meshes are compared, as an edit that only moves lines changes no route.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from mockservice.manifests.hosts import host_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mockservice.manifests.documents import Source

Pairs = tuple[tuple[str, str], ...]
"""Names and values: labels, environment variables, headers."""

TextKind = Literal["exact", "prefix", "regex", "present", "segments"]

PERCENT_OF_ALL = 100.0


def pairs(mapping: dict[str, str]) -> Pairs:
    """A mapping as pairs, in the order of the names."""
    return tuple(sorted(mapping.items()))


def selects(selector: Pairs, labels: Pairs) -> bool:
    """Whether pods with these labels are among those that the selector asks for."""
    return set(selector) <= set(labels)


@dataclass(frozen=True, slots=True)
class Note:
    """Something that whoever wrote the manifests should know."""

    text: str
    source: Source | None = field(default=None, compare=False)
    fails: bool = False
    """Whether lanes that are so do not hold."""
    informs: bool = False
    """Whether it only tells how something was read: there is nothing amiss."""
    changes_no_lanes: bool = False
    """Whether lanes are the same without what it tells of."""

    def __str__(self) -> str:
        return self.text

    @property
    def located(self) -> str:
        """The text after file and line, as a message to the user starts."""
        if self.source is None:
            return self.text
        return f"{self.source.path}:{self.source.line}: {self.text}"


@dataclass(frozen=True, slots=True)
class Pod:
    """One replica of a workload."""

    name: str
    namespace: str
    labels: Pairs
    env: Pairs
    port: int
    """Where the service in it listens."""
    source: Source | None = field(default=None, compare=False)
    replaced_by: str | None = None
    """The URL of a process that answers in its place, and that somebody else runs."""
    without_sidecar: Note | None = field(default=None, compare=False)
    """What tells that it has no sidecar on a cluster."""

    def __str__(self) -> str:
        return self.name if self.namespace == "default" else f"{self.namespace}/{self.name}"

    @property
    def app(self) -> str:
        """The `app` that the hop shows in the chain."""
        return dict(self.env).get("app", "")

    @property
    def version(self) -> str:
        """The `version` that the hop shows in the chain."""
        return dict(self.env).get("version", "")


@dataclass(frozen=True, slots=True)
class Service:
    """A name that callers know, and the pods behind it."""

    name: str
    namespace: str
    selector: Pairs
    ports: tuple[int, ...]
    tcp_ports: tuple[int, ...] = ()
    """The ports among them that are not declared to carry HTTP, so that no route counts there."""
    unserved_ports: tuple[int, ...] = ()
    """The ports among them at which no pod listens here."""
    is_headless: bool = False
    """Whether callers find its pods by DNS, so that their sidecars do not choose among them."""

    @property
    def host(self) -> str:
        """The full name."""
        return host_of(self.name, self.namespace)

    def is_of(self, namespace: str, labels: Pairs) -> bool:
        """Whether pods with these labels are behind it: none are where it has no selector."""
        return (
            bool(self.selector) and namespace == self.namespace and selects(self.selector, labels)
        )


@dataclass(frozen=True, slots=True)
class OutlierDetection:
    """When a pod that fails is left out for a while; None leaves it to Envoy's default."""

    consecutive_5xx: int | None = None
    consecutive_gateway_errors: int | None = None
    interval: float | None = None
    base_ejection_time: float | None = None
    max_ejection_percent: int | None = None
    min_health_percent: int | None = None
    splits_local_errors: bool = False
    """Whether failures to connect are counted on their own."""
    consecutive_local_errors: int | None = None


@dataclass(frozen=True, slots=True)
class HashOn:
    """What requests have in common that go to the same pod."""

    kind: Literal["header", "cookie", "source_ip", "query"]
    name: str = ""
    path: str | None = None
    """Of a cookie."""
    ttl: float | None = None
    """Of a cookie that the mesh sets where there is none; None: it sets none."""


@dataclass(frozen=True, slots=True)
class LoadBalancer:
    """How requests are spread over pods."""

    policy: Literal["LEAST_REQUEST", "RANDOM", "ROUND_ROBIN", "RING_HASH", "MAGLEV"]
    hash_on: HashOn | None = None
    size: int | None = None
    """Of the ring, at least, or of Maglev's table."""


@dataclass(frozen=True, slots=True)
class ConnectionPool:
    """Limits of connections and requests, and times in seconds; None leaves it to the mesh."""

    max_connections: int | None = None
    max_pending_requests: int | None = None
    max_requests: int | None = None
    max_retries: int | None = None
    max_requests_per_connection: int | None = None
    connect_timeout: float | None = None
    idle_timeout: float | None = None
    max_connection_duration: float | None = None


@dataclass(frozen=True, slots=True)
class TrafficPolicy:
    """How pods are called, once it is clear which."""

    load_balancer: LoadBalancer | None = None
    pool: ConnectionPool | None = None
    outliers: OutlierDetection | None = None
    ports: tuple[tuple[int, TrafficPolicy], ...] = ()
    """Of single ports: they take nothing over from the rest."""

    def at(self, port: int) -> TrafficPolicy:
        """The policy of a port."""
        return dict(self.ports).get(port, self)


@dataclass(frozen=True, slots=True)
class Subset:
    """The pods of a Service that carry certain labels: a lane's part of it."""

    host: str
    name: str
    labels: Pairs
    policy: TrafficPolicy | None = None
    source: Source | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Text:
    """What a text must be: `value` itself, begin with it, match it whole, or just be there.

    `segments` is a path that begins with the segments of `value` (Gateway API's PathPrefix).
    """

    kind: TextKind
    value: str = ""
    ignores_case: bool = False


@dataclass(frozen=True, slots=True)
class Match:
    """What a request must be: all of it."""

    uri: Text | None = None
    method: Text | None = None
    headers: tuple[tuple[str, Text], ...] = ()
    without_headers: tuple[tuple[str, Text], ...] = ()
    source_labels: Pairs = ()
    """The labels of the caller's pod."""
    query: tuple[tuple[str, Text], ...] = ()
    """Parameters of the query, not decoded; of several of one name the first counts."""
    authority: Text | None = None
    """The host as the caller names it, with the port if it names one."""
    scheme: Text | None = None
    port: int | None = None
    """The port of the Service that is called; it decides between pods only."""
    source_namespace: str | None = None
    """The namespace of the caller's pod."""


@dataclass(frozen=True, slots=True)
class HeaderChanges:
    """Headers that are set, added, or removed on the way."""

    set: Pairs = ()
    add: Pairs = ()
    remove: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Headers:
    """Changes of the request's and of the response's headers."""

    request: HeaderChanges = field(default_factory=HeaderChanges)
    response: HeaderChanges = field(default_factory=HeaderChanges)


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a share of the requests goes."""

    host: str
    port: int | None = None
    """None: the only port that the Service has."""
    subset: str | None = None
    weight: int = 1
    headers: Headers = field(default_factory=Headers)
    fallback: str | None = None
    """The subset that stands in while `subset` has no pod that is ready."""


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a failed call is sent again."""

    attempts: int
    per_try_timeout: float | None = None
    on: str | None = None
    """Envoy's and gRPC's conditions and status codes, comma-separated. None: the mesh's own."""
    backoff: float | None = None
    """How long the first one waits, at most."""
    avoids_pod: bool | None = None
    """Whether it goes to another pod, if there is one. None: unless requests are bound to one."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Requests that are delayed, or answered with a status and without a pod."""

    delay: float | None = None
    delay_percent: float = 0.0
    abort_status: int | None = None
    abort_percent: float = 0.0


@dataclass(frozen=True, slots=True)
class Redirect:
    """An answer that sends the client elsewhere; None leaves a part of the URL as it is."""

    status: int
    scheme: str | None = None
    authority: str | None = None
    port: int | None = None
    keeps_port: bool = False
    """Whether the port is that of the request."""
    path: str | None = None
    prefix: str | None = None
    """What takes the place of the part of the path that matches."""


@dataclass(frozen=True, slots=True)
class DirectResponse:
    """An answer without a pod."""

    status: int
    body: str = ""


@dataclass(frozen=True, slots=True)
class Mirror:
    """Where a copy of some of the requests goes; nobody gets the answers."""

    destination: Destination
    percent: float = PERCENT_OF_ALL


@dataclass(frozen=True, slots=True)
class Cors:
    """Which pages of other origins may see the answers (Fetch standard, "CORS protocol")."""

    origins: tuple[Text, ...] = ()
    methods: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    max_age: float | None = None
    credentials: bool | None = None
    forwards_unmatched: bool = True
    """Whether preflight requests of other origins get to the pods."""


@dataclass(frozen=True, slots=True)
class Route:
    """Requests that match one of `matches`, or any where there is none, and where they go.

    There are no destinations where a `redirect` or a `direct_response` answers.
    """

    destinations: tuple[Destination, ...] = ()
    matches: tuple[Match, ...] = ()
    headers: Headers = field(default_factory=Headers)
    rewrite_uri: str | None = None
    """What takes the place of the part of the path that matches."""
    rewrite_authority: str | None = None
    timeout: float | None = None
    retries: Retries | None = None
    """None: as often as the mesh does by itself."""
    fault: Fault | None = None
    rewrite_regex: tuple[str, str] | None = None
    """A regular expression and what takes the place of what it matches in the path."""
    redirect: Redirect | None = None
    direct_response: DirectResponse | None = None
    mirrors: tuple[Mirror, ...] = ()
    cors: Cors | None = None
    source: Source | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class RouteTable:
    """The routes of some hosts, the first that matches wins."""

    hosts: tuple[str, ...]
    routes: tuple[Route, ...]
    source: Source | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class LaneCarrier:
    """How the sidecars of some Services find the lane of a request that their pod sends.

    By the trace header's value they remember the route header of the request that came in. Where
    it is `baggage`, the lane is in the baggage itself, as the member named like the route header.
    """

    trace_header: str
    route_header: str
    hosts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DeclaredLane:
    """A lane that a manifest declares as such, and the Services that it holds."""

    name: str
    labels: Pairs
    hosts: tuple[str, ...]
    source: Source | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class LaneGroup:
    """Lanes that a manifest declares as such (ASM): what else is read out of the routes."""

    name: str
    hosts: tuple[str, ...]
    lanes: tuple[DeclaredLane, ...]
    route_header: str | None = None
    """The header that names the lane; None in a strict group, where the caller's labels do."""
    baseline: str | None = None
    """The lane that stands in for lanes that lack a Service; None in a strict group."""
    baselines: Pairs = ()
    """The same for single hosts, which go before."""
    source: Source | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Mesh:
    """All of it. Nothing in here refers to a manifest or to Envoy."""

    pods: tuple[Pod, ...] = ()
    services: tuple[Service, ...] = ()
    subsets: tuple[Subset, ...] = ()
    policies: tuple[tuple[str, TrafficPolicy], ...] = ()
    """Of whole hosts; a subset's own goes before, part by part."""
    gateway: tuple[RouteTable, ...] = ()
    gateway_labels: Pairs = ()
    gateway_port: int = 80
    """That clients of the gateway call on a cluster."""
    calls: tuple[RouteTable, ...] = ()
    """Of the calls between pods. Hosts without a table spread over all their pods."""
    carriers: tuple[LaneCarrier, ...] = ()
    lane_groups: tuple[LaneGroup, ...] = ()
    notes: tuple[Note, ...] = ()
    """What of the manifests has no effect here, or another one than its author may expect."""

    def service(self, host: str) -> Service | None:
        """The Service of that full name."""
        return next((service for service in self.services if service.host == host), None)

    def pods_of(self, service: Service, subset: str | None = None) -> Iterator[Pod]:
        """The pods behind a Service, or those of one of its subsets."""
        for pod in self.pods:
            if not service.is_of(pod.namespace, pod.labels):
                continue
            if subset is None or any(
                known.host == service.host
                and known.name == subset
                and selects(known.labels, pod.labels)
                for known in self.subsets
            ):
                yield pod

    def policy(self, host: str, subset: str | None, port: int) -> TrafficPolicy:
        """How the pods of a Service, or of one of its subsets, are called at a port.

        Source: Istio, "DestinationRule", `TrafficPolicy.portLevelSettings` and `Subset`.
        """
        whole = dict(self.policies).get(host, TrafficPolicy()).at(port)
        known = (one for one in self.subsets if (one.host, one.name) == (host, subset))
        own = next((one.policy for one in known if one.policy is not None), None)
        if own is None:
            return whole
        if port in dict(own.ports):
            return own.at(port)
        return TrafficPolicy(
            own.load_balancer or whole.load_balancer,
            own.pool or whole.pool,
            own.outliers or whole.outliers,
        )

    def services_of(self, pod: Pod) -> list[Service]:
        """The Services that a pod is behind."""
        return [one for one in self.services if one.is_of(pod.namespace, pod.labels)]

    def lane_of(self, pod: Pod) -> str:
        """The lanes that a pod is in: the subsets of its Services, empty if there is none."""
        hosts = {service.host for service in self.services_of(pod)}
        names = (
            subset.name
            for subset in self.subsets
            if subset.host in hosts and selects(subset.labels, pod.labels)
        )
        return ", ".join(dict.fromkeys(names))
