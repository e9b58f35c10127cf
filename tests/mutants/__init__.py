"""Mutation tests of the verdicts: every single breakage of a sound folder is refused or told."""
