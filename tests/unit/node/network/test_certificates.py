"""TLS between nodes, both sides in memory."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from ledger.errors import Invalid, Refused
from ledger.keys import PrivateKey
from ledger.node_certificate import certificate_key
from node.home import Home
from node.network.certificates import ALPN, peer_certificate, tls_context
from node.network.node_key import certificate_pem, write_node_key
from tests.networks import certificate, identity, node_key

ANCHORS = [certificate("server"), certificate("client")]


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both sides after TLS. Raises the error of the side that refuses."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    accepting = server.wrap_bio(to_server, to_client, server_side=True)
    dialling = client.wrap_bio(to_client, to_server)
    sides = [dialling, accepting]
    for _ in range(4):
        for side in list(sides):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            sides.remove(side)
    assert sides == []
    return accepting, dialling


def server_context(folder: Path, anchors: list[bytes]) -> ssl.SSLContext:
    return tls_context(identity(folder, "server"), anchors, server=True)


def client_context(folder: Path, name: str, anchors: list[bytes]) -> ssl.SSLContext:
    return tls_context(identity(folder, name), anchors, server=False)


def with_certificate(folder: Path, key: PrivateKey, der: bytes) -> ssl.SSLContext:
    """A client that shows any certificate and trusts the server."""
    context = client_context(folder, "stranger", ANCHORS)
    home = Home(folder / "shown")
    home.path.mkdir()
    made = write_node_key(home, key)
    made.certificate_file.write_text(certificate_pem(der))
    context.load_cert_chain(made.certificate_file, made.key_file)
    return context


def test_registered_nodes_know_each_other_by_their_keys(tmp_path: Path) -> None:
    sides = handshake(server_context(tmp_path, ANCHORS), client_context(tmp_path, "client", ANCHORS))
    for side, name in zip(sides, ("client", "server"), strict=True):
        assert side.version() == "TLSv1.3"
        assert side.selected_alpn_protocol() == ALPN
        assert not side.session_reused
        assert certificate_key(peer_certificate(side)) == node_key(name).public


def test_a_stranger_is_refused_by_the_server(tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server_context(tmp_path, ANCHORS), client_context(tmp_path, "stranger", ANCHORS))


def test_a_server_that_is_not_registered_is_refused_by_the_client(tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server_context(tmp_path, ANCHORS), client_context(tmp_path, "client", ANCHORS[1:]))


def test_without_registered_nodes_nobody_is_let_in(tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server_context(tmp_path, []), client_context(tmp_path, "client", ANCHORS))


def test_a_client_without_certificate_is_refused(tmp_path: Path) -> None:
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname = False
    bare.load_verify_locations(cadata=ANCHORS[0])
    with pytest.raises(ssl.SSLError, match=r"(?i)peer did not return a certificate"):
        handshake(server_context(tmp_path, ANCHORS), bare)


def test_older_tls_is_refused(tmp_path: Path) -> None:
    old = client_context(tmp_path, "client", ANCHORS)
    old.minimum_version = ssl.TLSVersion.TLSv1_2
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        handshake(server_context(tmp_path, ANCHORS), old)


def _certificate_by(signer: PrivateKey, issuer: str, subject: str, key: PrivateKey, authority: bool) -> bytes:
    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(Ed25519PrivateKey.from_private_bytes(key.seed()).public_key())
        .serial_number(1)
        .not_valid_before(datetime.datetime(1970, 1, 1))
        .not_valid_after(datetime.datetime(9999, 12, 31, 23, 59, 59))
        .add_extension(x509.BasicConstraints(authority, None), critical=True)
    )
    return builder.sign(Ed25519PrivateKey.from_private_bytes(signer.seed()), None).public_bytes(Encoding.DER)


@pytest.mark.parametrize("authority", [False, True])
def test_the_name_of_a_registered_node_on_another_key_is_refused(tmp_path: Path, authority: bool) -> None:
    stranger, client = node_key("stranger"), node_key("client")
    name = client.public.hex()
    client_side = with_certificate(tmp_path, stranger, _certificate_by(stranger, name, name, stranger, authority))
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server_context(tmp_path, ANCHORS), client_side)


def test_a_registered_node_vouches_for_nobody(tmp_path: Path) -> None:
    stranger, client = node_key("stranger"), node_key("client")
    issued = _certificate_by(client, client.public.hex(), "stranger", stranger, False)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server_context(tmp_path, ANCHORS), with_certificate(tmp_path, stranger, issued))


def test_another_certificate_of_a_registered_key_is_refused(tmp_path: Path) -> None:
    client = node_key("client")
    name = client.public.hex()
    other = _certificate_by(client, name, name, client, True)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server_context(tmp_path, ANCHORS), with_certificate(tmp_path, client, other))


def test_another_protocol_name_is_refused(tmp_path: Path) -> None:
    other = client_context(tmp_path, "client", ANCHORS)
    other.set_alpn_protocols(["http/1.1"])
    accepting, dialling = handshake(server_context(tmp_path, ANCHORS), other)
    for side in (accepting, dialling):
        with pytest.raises(Refused) as caught:
            peer_certificate(side)
        assert caught.value.code == "E-PEER-001"


def test_an_anchor_that_is_no_certificate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid) as caught:
        server_context(tmp_path, [certificate("server")[:-1] + b"\0"])
    assert caught.value.code == "E-NODEKEY-001"
