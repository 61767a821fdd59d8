"""HTTP/1.1 on aiohttp's parser: connections, what is asked on them and what is answered."""
