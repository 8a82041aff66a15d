"""Typed clients over Corral's gRPC services; `AsyncClient` is the one for an event loop."""

from corral.client.aio import AsyncClient as AsyncClient
