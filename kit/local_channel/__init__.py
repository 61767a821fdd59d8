"""Calls between services of one process: the generated stubs and servicers of the network, without bytes or sockets.

:class:`LocalChannel` takes a stub's calls to the handlers that the process serves, interceptors included, each in a
task and a context of its own, with metadata, deadline, cancellation and status as on the network. Messages are copied,
so neither side sees what the other does with its own afterwards. The same scenarios run over both in the tests, and
must be observed alike, but for these differences; each has its test.

What a servicer sees:

- `peer()` is `local:` and `auth_context()` is empty; there is no `user-agent` in the metadata.
- It runs in an empty `contextvars.Context`; grpc's server gives that in which it was started.
- Its caller's leaving is `asyncio.CancelledError` at its next await; over TCP a read may end with EOF before.
- `grpc-timeout` in the metadata is dropped; over TCP it sets a deadline.

What a caller sees:

- Details of statuses that gRPC's transport makes lack the `Stream removed (…)` around them; debug strings differ.
- A request is copied when the call or the write is made. One that cannot be serialised raises then; grpc logs and sends
  an empty message. Messages nested deeper than 100 levels pass; protobuf's parser refuses them.
- A response that the caller's deserialiser refuses ends the call with UNKNOWN; grpc gives None.
- Metadata of wrong Python types raises when the call is made, not when it is awaited. Invalid metadata of a unary-unary
  call ends it with INTERNAL, as all other kinds do; grpc raises `InternalError`, and `code()` never returns.
- Metadata counts by what was given, without the transport's own; between gRPC's soft (8 KiB) and hard limit (16 KiB),
  where gRPC refuses at random, it passes.
- A timeout of infinity is no deadline; in grpc it overflows to one that has passed.
- A stream that its caller drops is cancelled at once; in grpc it stays until the servicer ends it.
- When a call ends, its request iterator is cancelled at once; grpc waits for its next request. A write that meets the
  end raises `InvalidStateError`; grpc may give the call the status INTERNAL, "Internal error from Core", instead.
- A done callback that raises is logged; in grpc it keeps the others from running.

What never ends over TCP ends here: a servicer that raises `CancelledError` itself gives CANCELLED, `abort` with OK
gives UNKNOWN, and text under a `-bin` key in trailing metadata gives INTERNAL.

Flow control lets a writer be 16 messages or 256 KiB ahead in each direction, and one message more. A stub's method must
be of the kind of the servicer's (UNIMPLEMENTED otherwise), and servicers must be async (TypeError otherwise). The
channel is READY from the start; closing it waits for the servicers that it called. Compression, `wait_for_ready` and
the options of the network's server, such as its limit of concurrent calls, have no effect.
"""

from kit.local_channel.channel import LocalChannel
from kit.local_channel.metadata import CheckedMetadata

__all__ = ["CheckedMetadata", "LocalChannel"]
