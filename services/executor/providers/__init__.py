"""What speaks to providers: one module per wire contract, each behind the port `Provider`."""
