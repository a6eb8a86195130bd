"""Fixtures of the end-to-end tests: real processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.end_to_end.nodes import NodeProcess


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """A running node of a new development chain, one for each module of tests."""
    with NodeProcess.create(tmp_path_factory.mktemp("node")) as running:
        yield running
