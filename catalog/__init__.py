"""The local view of what the registry owns, and the pure rules that decide a call from it."""
