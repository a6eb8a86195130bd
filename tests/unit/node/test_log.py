from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import structlog

from node.log import configure, logger


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "json")
    logger().info("node started", height=7)
    logger().debug("unseen")
    logger().error("the node must stop", code="E-STORE-003")
    out, err = capsys.readouterr()
    assert out == ""
    first, second = [json.loads(line) for line in err.splitlines()]
    assert first.pop("timestamp").endswith("Z")
    assert first == {"event": "node started", "height": 7, "level": "info"}
    assert second["level"] == "error" and second["code"] == "E-STORE-003"


@pytest.mark.parametrize(("level", "shown"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_levels(level: str, shown: int, capsys: pytest.CaptureFixture[str]) -> None:
    configure(level, "text")
    log = logger()
    for event in (log.debug, log.info, log.warning, log.error):
        event("something happened", height=1)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == shown
    assert all("something happened" in line and "height=1" in line for line in lines)


def test_a_failure_is_logged_with_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "json")
    try:
        raise ValueError("broken")
    except ValueError:
        logger().exception("request failed", path="/v1/chain")
    [line] = capsys.readouterr().err.splitlines()
    found = json.loads(line)
    assert found["path"] == "/v1/chain" and "ValueError: broken" in found["exception"]
