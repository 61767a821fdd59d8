"""Postgres behind the Store port."""

from services.analytics.store.postgres import PostgresStore

__all__ = ["PostgresStore"]
