"""Contracts to domain and back. Pure."""
