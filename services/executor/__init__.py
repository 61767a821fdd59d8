"""The executor: runs completions against providers, and records what happened."""
