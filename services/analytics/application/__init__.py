"""Use cases of analytics, by noun."""
