"""What surrounds every rpc: trace, status, deadline, authentication, validation. The same over TCP and in the process.

An rpc's handler is wrapped once, when it is registered (`kit.server`); the wrapped handler is what the gRPC server and
the local channel both run. That is also cheaper than grpc's own interceptors, which look a handler up for each call.
"""

from kit.interceptors.auth import Auth, Authenticator
from kit.interceptors.chain import Chain
from kit.interceptors.rates import Rates
from kit.interceptors.validation import Validation

__all__ = ["Auth", "Authenticator", "Chain", "Rates", "Validation"]
