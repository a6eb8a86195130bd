from __future__ import annotations

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from ledger.errors import Invalid
from ledger.keys import PrivateKey
from ledger.node_certificate import CERTIFICATE_BYTES, certificate_key, make_certificate

KEY = PrivateKey(bytes(range(32)))
CERTIFICATE = make_certificate(KEY)


def by_library(key: PrivateKey) -> bytes:
    """The same certificate, put together by `cryptography`."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, key.public.hex())])
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    own = Ed25519PrivateKey.from_private_bytes(key.seed())
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(own.public_key())
        .serial_number(1)
        .not_valid_before(datetime.datetime(1970, 1, 1))
        .not_valid_after(datetime.datetime(9999, 12, 31, 23, 59, 59))
        .add_extension(x509.BasicConstraints(False, None), critical=True)
        .add_extension(usage, critical=True)
    )
    return builder.sign(own, None).public_bytes(Encoding.DER)


def test_it_is_the_certificate_that_a_library_makes() -> None:
    for number in range(8):
        key = PrivateKey(bytes([number]) * 32)
        assert make_certificate(key) == by_library(key)


def test_a_library_reads_it_and_verifies_its_signature() -> None:
    read = x509.load_der_x509_certificate(CERTIFICATE)
    public = read.public_key()
    assert isinstance(public, Ed25519PublicKey)
    assert public.public_bytes_raw() == KEY.public
    read.verify_directly_issued_by(read)
    assert read.not_valid_after_utc.year == 9999


def test_the_key_is_read_back() -> None:
    assert len(CERTIFICATE) == CERTIFICATE_BYTES
    assert certificate_key(CERTIFICATE) == KEY.public


def test_every_other_byte_is_refused() -> None:
    for place in range(len(CERTIFICATE)):
        changed = CERTIFICATE[:place] + bytes([CERTIFICATE[place] ^ 1]) + CERTIFICATE[place + 1 :]
        with pytest.raises(Invalid) as caught:
            certificate_key(changed)
        assert caught.value.code in ("E-NODEKEY-001", "E-KEY-001")


@pytest.mark.parametrize("other", [b"", CERTIFICATE[:-1], CERTIFICATE + b"\0", bytes(CERTIFICATE_BYTES)])
def test_other_bytes_are_refused(other: bytes) -> None:
    with pytest.raises(Invalid) as caught:
        certificate_key(other)
    assert caught.value.code == "E-NODEKEY-001"


def test_a_certificate_signed_by_another_key_is_refused() -> None:
    other = make_certificate(PrivateKey(bytes(32)))
    with pytest.raises(Invalid) as caught:
        certificate_key(CERTIFICATE[:-64] + other[-64:])
    assert caught.value.code == "E-NODEKEY-001"
