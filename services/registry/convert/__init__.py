"""Between the contract's messages and the registry's own types, both ways. Pure."""
