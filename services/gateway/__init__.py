"""The gateway: HTTP for those who do not speak gRPC; it translates and owns nothing."""
