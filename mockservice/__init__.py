"""mockservice: the mock hop that people chain together to see traffic lanes work."""

__version__ = "0.1.0"
