"""Embedded Postgres, NATS and a local LLM for demos and tests; never imported by services."""
