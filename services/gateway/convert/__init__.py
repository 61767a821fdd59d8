"""OpenAI's wire format to our contracts and back. Pure."""
