"""Registries of a real server."""

from __future__ import annotations

from tests.journeys.conftest import client, exported, server

__all__ = ["client", "exported", "server"]
