"""The registry's use cases, by noun."""
