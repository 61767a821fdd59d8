"""`turnout`: a gRPC client for people."""
