"""Kubernetes manifests: reads them and checks what no schema can."""
