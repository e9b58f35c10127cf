"""`mockservice lanes`: runs lane manifests on this machine, behind a real Envoy."""
