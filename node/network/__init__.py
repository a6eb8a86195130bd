"""The network between nodes: mutual TLS between registered keys, bounded frames, bounded queues, bans that end.

Read in this order: `node_key` and `certificates` (who), `frames` and `handshake` (what goes over the wire), `outbox`,
`meter` and `bans` (the bounds of one peer), `connection` (one connection), `gate` (before anybody is known), `peers`
(all of it, and what the node calls). The protocol is described in docs/spec/network.md.
"""
