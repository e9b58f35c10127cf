"""Local lanes held against Istio: the same cases, the same requests, the same answers.

`make truth` asks Istio's pilot and records its answers; `make test` holds local lanes against them.
"""
