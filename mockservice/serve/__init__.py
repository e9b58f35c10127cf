"""`mockservice serve`: the service, one hop of the chain."""
