"""TLS between nodes: version 1.3, both sides with a certificate, and only registered certificates accepted.

Rules kept here:
- the trust anchors are exactly the registered certificates. They are no authorities (CA:FALSE), and OpenSSL takes a
  self-signed certificate only where the very same bytes are an anchor: so this is pinning, done before any byte of
  ours is exchanged;
- the key behind a connection is read from the certificate once more and handed on, since "one of the registered" is
  not "the one that was dialled";
- no session is ever resumed: a resumed one would skip the look at the certificate;
- no name is checked and none is sent (SNI): a node is its key, wherever it lives;
- the protocol name "troth/1" (ALPN), so that neither side can be taken for a server of something else.

A context is made anew when registrations change: OpenSSL can add anchors to a context and cannot remove any.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable

from ledger.errors import Refused, define
from ledger.node_certificate import certificate_key
from node.network.node_key import NodeIdentity

NO_PEER_CERTIFICATE = define("E-PEER-001", "TLS gave no certificate of the peer", "connect with the node's key")

ALPN = "troth/1"


def tls_context(identity: NodeIdentity, anchors: Iterable[bytes], *, server: bool) -> ssl.SSLContext:
    """The context of one side of connections: own certificate, and the registered ones (DER) that may answer.

    Without any anchor nobody is let in. Raises Invalid (E-NODEKEY-001) for an anchor that is no node's certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION
    if server:
        context.num_tickets = 0
    context.set_alpn_protocols([ALPN])
    context.load_cert_chain(identity.certificate_file, identity.key_file)
    trusted = sorted(set(anchors))
    for certificate in trusted:
        certificate_key(certificate)
    if trusted:
        context.load_verify_locations(cadata=b"".join(trusted))
    return context


def peer_certificate(connection: ssl.SSLObject | ssl.SSLSocket) -> bytes:
    """The certificate (DER) with which the peer has proven itself. Raises Refused (E-PEER-001)."""
    certificate = connection.getpeercert(binary_form=True)
    if certificate is None or connection.selected_alpn_protocol() != ALPN:
        raise Refused(NO_PEER_CERTIFICATE, f"a connection without a certificate or without {ALPN}")
    return certificate
