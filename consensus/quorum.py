"""Voting power and quorums, in integers.

With W the sum of power: a quorum is floor((2W - 1) / 3) + 1, and F = floor((W - 1) / 3) may be faulty. Two quorums
then share more than F. (2F + 1 would be unsafe unless W = 3F + 1.) Source: EEA QBFT, quorum size; CONSENSUS C2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ledger.block import Certificate, Validator, commit_message
from ledger.errors import VerifyFailed, define
from ledger.keys import verify

BAD_CERTIFICATE = define(
    "E-CERTIFICATE-001", "the certificate does not make the block final", "do not trust this copy; fetch it elsewhere"
)


def quorum(total_power: int) -> int:
    """The least power that decides, of `total_power` >= 1."""
    return (2 * total_power - 1) // 3 + 1


def faulty(total_power: int) -> int:
    """The most power that may be faulty without harm."""
    return (total_power - 1) // 3


def proposer(validators: Sequence[Validator], height: int, round_: int) -> Validator:
    """Whose turn it is: the order is that of the set, fixed for the epoch (CONSENSUS C11)."""
    return validators[(height + round_) % len(validators)]


def check_certificate(
    certificate: Certificate,
    chain_id: str,
    block_id: bytes,
    validators: Sequence[Validator],
    verify: Callable[[bytes, bytes, bytes], bool] = verify,
) -> None:
    """Raises VerifyFailed (E-CERTIFICATE-001) unless a quorum of `validators` sealed exactly this block.

    Membership and repeats are judged before any signature is verified. The certificate's height and block id are
    covered by every seal; the caller compares the height with the block's. `verify` is `ledger.keys.verify`, or a
    look-up of what it said before.
    """
    if certificate.block_id != block_id:
        raise VerifyFailed(BAD_CERTIFICATE, f"it names block {certificate.block_id.hex()}, not {block_id.hex()}")
    by_address = {validator.address: validator for validator in validators}
    sealed = 0
    previous = b""
    for seal in certificate.seals:
        validator = by_address.get(seal.validator)
        if validator is None:
            raise VerifyFailed(
                BAD_CERTIFICATE, f"{seal.validator.hex()} is no validator of height {certificate.height}"
            )
        if seal.validator <= previous:
            raise VerifyFailed(BAD_CERTIFICATE, f"seals do not ascend at {seal.validator.hex()}")
        previous = seal.validator
        sealed += validator.power
    needed = quorum(sum(validator.power for validator in validators))
    if sealed < needed:
        raise VerifyFailed(
            BAD_CERTIFICATE, f"power {sealed} has sealed height {certificate.height}, {needed} are needed"
        )
    message = commit_message(chain_id, certificate.height, certificate.round, block_id)
    for seal in certificate.seals:
        if not verify(by_address[seal.validator].public_key, message, seal.signature):
            raise VerifyFailed(BAD_CERTIFICATE, f"the seal of {seal.validator.hex()} does not verify")
