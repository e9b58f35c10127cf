"""The lane rules of a folder of manifests, carried out on this machine by a real Envoy."""
