"""The folders of `k8s/` on an API server alone: `make kube-test`."""
