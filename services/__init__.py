"""The rooms: each service in a folder of its own; rooms never import rooms."""
