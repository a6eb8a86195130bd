"""`python -m cli`: the command `troth` where it is not installed."""

from __future__ import annotations

from cli.main import main

main()
