"""etcd and the API server, and the way to talk to them."""

from __future__ import annotations

import json
import secrets
import subprocess
from typing import TYPE_CHECKING, Final

from tests.kube.kubectl import Kubectl
from tests.kube.needs import built

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kube.processes import Processes

KEY: Final = "service-accounts.key"
"""The file of the key of service accounts."""

START_TIMEOUT: Final = 180.0
"""Seconds for a component of Kubernetes to become ready on a busy machine."""

RESTRICTED: Final = tuple(
    f"pod-security.kubernetes.io/{mode}=restricted" for mode in ("enforce", "warn")
)
"""The labels of a namespace: it refuses pods that are not restricted, and warns of Deployments."""

_SERVICES: Final = "198.19.0.0/24"
"""Addresses for tests of networks (RFC 2544), which are no network of anybody's."""

_NO_HOST: Final = "192.0.2.1"
"""An address that nobody has (RFC 5737): the API server wants to be known by one of its own."""


def start(
    processes: Processes, folder: Path, address: str, *more: str, advertise: str = _NO_HOST
) -> Kubectl:
    """Start both, and wait until they are ready.

    Args:
        processes: who ends them.
        folder: for their data, keys and kubeconfig.
        address: where they listen.
        more: further arguments of the API server.
        advertise: the address of the Service `kubernetes`.

    Raises:
        BrokenError: they do not start.
    """
    etcd = f"http://{address}:2379"
    peers = f"http://{address}:2380"
    processes.start(
        *("etcd", "etcd", "--data-dir", folder / "etcd", "--unsafe-no-fsync"),
        *("--listen-client-urls", etcd, "--advertise-client-urls", etcd),
        *("--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers),
        *("--initial-cluster", f"default={peers}"),
    )
    key = folder / KEY
    subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
    token = secrets.token_hex(16)
    (folder / "tokens.csv").write_text(f'{token},admin,admin,"system:masters"\n')
    processes.start(
        *("kube-apiserver", built("kube-apiserver"), "--etcd-servers", etcd),
        *("--bind-address", address, "--advertise-address", advertise),
        *("--cert-dir", folder / "certificates", "--token-auth-file", folder / "tokens.csv"),
        *("--authorization-mode", "RBAC", "--service-cluster-ip-range", _SERVICES),
        *("--service-account-issuer", "https://kubernetes.default.svc"),
        *("--service-account-key-file", key, "--service-account-signing-key-file", key),
        *more,
    )
    kubectl = Kubectl(folder / "kubeconfig")
    server = {
        "server": f"https://{address}:6443",
        "certificate-authority": str(folder / "certificates/apiserver.crt"),
    }
    # JSON is YAML.
    kubectl.config.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "test", "cluster": server}],
                "users": [{"name": "admin", "user": {"token": token}}],
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
                "current-context": "test",
            }
        )
    )
    processes.wait(
        "kube-apiserver ready",
        lambda: kubectl("get", "--raw", "/readyz").out == "ok",
        START_TIMEOUT,
    )
    return kubectl


def make_namespaces(processes: Processes, kubectl: Kubectl, *names: str) -> None:
    """Make namespaces that want restricted pods; the namespace `default` becomes one."""
    processes.wait(
        "the namespace default",
        lambda: kubectl("get", "namespace", "default").code == 0,
        START_TIMEOUT,
    )
    for name in names:
        kubectl.must("create", "namespace", name)
    for name in ("default", *names):
        kubectl.must("label", "namespace", name, *RESTRICTED)
