"""Postgres behind the registry's Store port; rows never leave it."""

from services.registry.store.postgres import PostgresStore

__all__ = ["PostgresStore"]
