"""Whole networks of the production engine in virtual time, from one seed: `python -m tests.simulation --seeds A..B`."""
