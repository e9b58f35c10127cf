"""The three-hop chain under load: mockservice beside Go's net/http and plain aiohttp."""
