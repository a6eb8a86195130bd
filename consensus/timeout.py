"""How long a round may take: min(base * 2^round, cap), in whole milliseconds.

The cap is what lets a network resume: without it, ten rounds of an outage make the next timeout an hour long (Besu
7642, 4,096 s). Source: EEA QBFT, `roundTimeout`; CONSENSUS C8.
"""

from __future__ import annotations


def round_timeout_ms(round_: int, base_ms: int, cap_ms: int) -> int:
    """The timeout of a round from 0 up, in ms."""
    if round_ >= cap_ms.bit_length():  # base * 2^round is past the cap; never shift by what a peer may choose
        return cap_ms
    return min(base_ms << round_, cap_ms)
