"""The certificate of a node's key: X.509 in one fixed form, self-signed with Ed25519, for TLS between nodes.

Only the key and the signature differ between two certificates, so a key has exactly one certificate, which its holder
makes again at will; and to read one is to compare bytes. No other X.509 is taken, so nothing here parses ASN.1.

The form (RFC 5280, RFC 8410): version 3, serial 1, subject and issuer CN = the key in 64 hexadecimal digits, valid
from 1970-01-01 to 9999-12-31 23:59:59 (RFC 5280, 4.1.2.5: no expiry), so no clock and no forgotten renewal can halt
the chain; basic constraints CA:FALSE and key usage digitalSignature, both critical, so that it vouches for none but
itself.
"""

from __future__ import annotations

from ledger.errors import Invalid, define
from ledger.keys import PUBLIC_KEY_BYTES, SIGNATURE_BYTES, PrivateKey, check_public_key, verify

BAD_CERTIFICATE = define("E-NODEKEY-001", "not a node's certificate", "use the node.crt of that node's home")

_WHOLE = bytes.fromhex("30820167")  # SEQUENCE: certificate
_SIGNED = bytes.fromhex("30820119a003020102020101")  # SEQUENCE: version 3, serial 1
_ALGORITHM = bytes.fromhex("300506032b6570")  # id-Ed25519
_NAME = bytes.fromhex("304b3149304706035504030c40")  # one CN of 64 characters
_VALIDITY = bytes.fromhex("3020170d") + b"700101000000Z" + bytes.fromhex("180f") + b"99991231235959Z"
_KEY = bytes.fromhex("302a300506032b6570032100")  # id-Ed25519, BIT STRING
_EXTENSIONS = bytes.fromhex("a320301e300c0603551d130101ff04023000300e0603551d0f0101ff040403020780")
_SIGNATURE = bytes.fromhex("034100")  # BIT STRING

_KEY_AT = sum(map(len, (_WHOLE, _SIGNED, _ALGORITHM, _NAME, _VALIDITY, _NAME, _KEY))) + 2 * 2 * PUBLIC_KEY_BYTES
CERTIFICATE_BYTES = _KEY_AT + PUBLIC_KEY_BYTES + sum(map(len, (_EXTENSIONS, _ALGORITHM, _SIGNATURE))) + SIGNATURE_BYTES


def make_certificate(key: PrivateKey) -> bytes:
    """The certificate of a node's key, as DER."""
    signed = _signed_part(key.public)
    return _WHOLE + signed + _ALGORITHM + _SIGNATURE + key.sign(signed)


def certificate_key(certificate: bytes) -> bytes:
    """The public key, 32 bytes, that the certificate is of and signed by.

    Raises Invalid: E-NODEKEY-001 for any other bytes, E-KEY-001 for a key that is not acceptable.
    """
    if type(certificate) is not bytes or len(certificate) != CERTIFICATE_BYTES:
        raise Invalid(BAD_CERTIFICATE, f"a node's certificate is {CERTIFICATE_BYTES} bytes of DER")
    key = certificate[_KEY_AT : _KEY_AT + PUBLIC_KEY_BYTES]
    signed, signature = _signed_part(key), certificate[-SIGNATURE_BYTES:]
    if certificate != _WHOLE + signed + _ALGORITHM + _SIGNATURE + signature:
        raise Invalid(BAD_CERTIFICATE, "the certificate has another form than docs/spec/network.md gives it")
    check_public_key(key)
    if not verify(key, signed, signature):
        raise Invalid(BAD_CERTIFICATE, f"the certificate is not signed by its own key {key.hex()}")
    return key


def _signed_part(key: bytes) -> bytes:
    name = _NAME + key.hex().encode("ascii")
    return _SIGNED + _ALGORITHM + name + _VALIDITY + name + _KEY + key + _EXTENSIONS
