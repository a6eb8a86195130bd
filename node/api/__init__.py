"""The HTTP API: REST under /v1, server-sent events, health, metrics, OpenAPI. See docs/api.md for the tour."""
