"""Kubernetes manifests of lanes: reading them, and checking what no schema checks."""
