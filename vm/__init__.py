"""Deterministic execution: the kit that native contracts are written with, and the executor that runs them.

Read in this order: `kinds` (declared types), `contract` (what a contract is), `overlay` (state during a block),
`context` (what a method may ask), `gas`, `registry`, `executor`; then, from outside,
`schema`, `cells` (invariants and audit) and `faults` (receipts in words).
"""
