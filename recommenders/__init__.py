"""Recommenders: their artifact, their answers, and how they are trained. Pure: no transport, no service."""
