"""The node: all input and output. Storage, mempool, block production, API, metrics, audit.

Read in this order: `keyvalue` and `ledger_store` (rows), `chain` (one block at a time), `verifier`, `mempool`,
`producer`, `service` (the wiring, which reads as the data's way), `api`.
"""
