"""The manifests on a real Kubernetes: its API server, and a node that runs their pods."""
