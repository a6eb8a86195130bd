"""Health, readiness, metrics, and the API's own description."""

from __future__ import annotations

from aiohttp import web

from node.api.openapi import document
from node.api.server import answer, node_of

ROUTES = web.RouteTableDef()


@ROUTES.get("/health/live")
async def live(request: web.Request) -> web.Response:
    """200 while the process answers."""
    return answer({"status": "live"})


@ROUTES.get("/health/ready")
async def ready(request: web.Request) -> web.Response:
    """200 where the node takes transactions and its head is fresh, else 503, with the reasons."""
    state = node_of(request).readiness()
    return answer(state, status=200 if state["ready"] else 503)


@ROUTES.get("/metrics")
async def metrics(request: web.Request) -> web.Response:
    """Metrics for Prometheus."""
    node = node_of(request)
    node.refresh_metrics()
    return web.Response(
        body=node.metrics.render(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
    )


@ROUTES.get("/openapi.json")
async def openapi(request: web.Request) -> web.Response:
    """The API's description, OpenAPI 3.1."""
    return answer(document(node_of(request).chain.registry))
