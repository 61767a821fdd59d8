"""Events: written to the local spool by the call, relayed to JetStream beside it, consumed at least once."""
