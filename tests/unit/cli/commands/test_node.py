from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from cli.commands.node import fetch_readiness
from ledger.errors import Fault, Unavailable
from tests.unit.cli.typed import failure, typed


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """The address of a server that gives this answer to everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = typed("init", "--chain-id=dev-1", "--organisation=grocer", "--dev-keys", home=tmp_path / "home")
    assert made.exit_code == 0, made.stderr
    return tmp_path / "home"


def test_readiness_is_read_from_an_unready_node_too() -> None:
    unready = {"ready": False, "reasons": ["the node is stopping"]}
    with answering(503, json.dumps(unready).encode()) as url:
        assert fetch_readiness(url, 5.0) == unready
    with answering(200, b'{"ready": true}') as url:
        assert fetch_readiness(url, 5.0) == {"ready": True, "reasons": []}


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"ready": "yes"}'])
def test_what_is_no_readiness_is_no_node(body: bytes) -> None:
    with answering(200, body) as url, pytest.raises(Fault) as caught:
        fetch_readiness(url, 5.0)
    assert caught.value.code == "E-CLIENT-002"


def test_readiness_of_nobody_is_unavailable(free_port: int) -> None:
    with pytest.raises(Unavailable) as caught:
        fetch_readiness(f"http://127.0.0.1:{free_port}", 5.0)
    assert caught.value.code == "E-CLIENT-001" and "refused" in caught.value.cause


def test_status_of_nobody_exits_with_6(home: Path, free_port: int) -> None:
    result = typed("node", "status", f"--set=api.port={free_port}", home=home)
    assert result.exit_code == 6
    assert "E-CLIENT-001" in result.stderr


def test_start_needs_a_home(tmp_path: Path) -> None:
    result = typed("node", "start", home=tmp_path / "none")
    assert result.exit_code == 5
    assert result.stderr == f"E-HOME-001 no home at {tmp_path / 'none'}; run: troth init\n"


def test_start_needs_a_genesis_document(home: Path) -> None:
    (home / "genesis.json").unlink()
    assert failure(typed("node", "start", "--json", home=home))["code"] == "E-HOME-004"


def test_start_refuses_a_development_key_on_another_chain(home: Path) -> None:
    genesis = home / "genesis.json"
    genesis.write_text(genesis.read_text().replace("dev-1", "acme-1"))
    result = typed("node", "start", "--json", home=home)
    assert (result.exit_code, failure(result)["code"]) == (4, "E-CLI-008")


def test_start_without_a_terminal_asks_for_a_passphrase_file(home: Path, tmp_path: Path) -> None:
    from ledger.keys import PrivateKey
    from node import keystore

    keystore.save(home / "keys", "mine", PrivateKey(bytes(32)), "secret")
    found = failure(typed("node", "start", "--set=validator.key=mine", "--json", home=home))
    assert (found["code"], found["fix"]) == ("E-CLI-001", "give --passphrase-file FILE")
