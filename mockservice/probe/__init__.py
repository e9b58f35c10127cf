"""Tells whether the lanes behind a URL hold: requests -> chains -> tally -> verdicts."""
