"""The router: says which variant a call would be served by, without serving it."""
