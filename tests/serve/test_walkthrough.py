"""The env blocks of the public walkthrough, unchanged, in a network that has its host names."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

# Each pod of the walkthrough has the container port 8000 and knows its next hop by name, so each
# process gets a network namespace of its own, as a pod has.
_BLOCKS = {
    "mocka": {"version": "v1", "app": "mocka", "upstream_url": "http://mockb:8000/"},
    "mockb": {"version": "v1", "app": "mockb", "upstream_url": "http://mockc:8000/"},
    "mockc": {"version": "v1", "app": "mockc"},
}
_ADDRESSES = {"mocka": "10.0.239.73", "mockb": "10.0.239.136", "mockc": "10.0.239.139"}

_SCRIPT = """\
set -e
mount -t tmpfs none /run
pids=
mkdir -p "$FOLDER"
for app in mocka mockb mockc; do
    eval "echo \\$ip_$app $app" >> "$FOLDER/hosts"
done
mount --bind "$FOLDER/hosts" /etc/hosts
ip link add bridge type bridge
ip link set bridge up
ip addr add 10.0.239.1/24 dev bridge
for app in mocka mockb mockc; do
    eval "ip=\\$ip_$app block=\\$block_$app"
    ip netns add "$app-$RUN"
    ip link add "$app" type veth peer name eth0 netns "$app-$RUN"
    ip link set "$app" master bridge up
    ip -n "$app-$RUN" addr add "$ip/24" dev eth0
    ip -n "$app-$RUN" link set eth0 up
    ip -n "$app-$RUN" link set lo up
    ip -n "$app-$RUN" route add default via 10.0.239.1
    env -i PATH="$PATH" $block ip netns exec "$app-$RUN" "$PYTHON" -m mockservice &
    pids="$pids $!"
done
"$PYTHON" - <<'END'
import time, urllib.error, urllib.request
end = time.monotonic() + 30
while True:
    try:
        answer = urllib.request.urlopen("http://10.0.239.73:8000/mock", timeout=5).read()
        break
    except OSError:
        if time.monotonic() > end:
            raise
        time.sleep(0.1)
print(answer.decode(), end="")
END
kill $pids
wait
"""


@pytest.mark.skipif(os.getuid() != 0, reason="making a network namespace takes root")
def test_the_env_blocks_of_the_walkthrough_answer_its_chain(tmp_path: str) -> None:
    env = {
        "PATH": os.environ["PATH"],
        "PYTHON": sys.executable,
        "FOLDER": f"{tmp_path}/etc",
        "RUN": str(os.getpid()),
    }
    for app, block in _BLOCKS.items():
        env[f"ip_{app}"] = _ADDRESSES[app]
        env[f"block_{app}"] = " ".join(f"{name}={value}" for name, value in block.items())
    ran = subprocess.run(
        ["unshare", "--net", "--mount", "sh", "-c", _SCRIPT],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.stdout == "".join(
        f"-> {app}(version: v1, ip: {ip})" for app, ip in _ADDRESSES.items()
    ), ran.stderr
