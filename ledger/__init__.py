"""The ground floor: what every byte means.

Codec, hashes, keys, addresses, transactions, blocks, receipts, trees and proofs. Pure: the same input gives the
same output on every machine and every supported Python. Nothing here knows files, sockets, clocks or randomness.
"""
