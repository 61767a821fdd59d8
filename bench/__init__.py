"""Reproducible benchmarks; each says what was on and compares within the same run."""
