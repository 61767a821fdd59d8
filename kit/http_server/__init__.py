"""HTTP/1.1: connections, what is asked on them and what is answered."""
