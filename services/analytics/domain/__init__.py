"""Types and rules of analytics; pure."""
