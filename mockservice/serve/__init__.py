"""`mockservice serve`: one hop, from its environment to its answer."""
