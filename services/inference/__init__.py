"""Recommends items by trained models, and takes new models in."""
