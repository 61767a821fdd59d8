"""Analytics: remembers every request and payload, and measures them."""
