"""The folders of `k8s/` on a node that runs their pods: `make cluster-test`."""
