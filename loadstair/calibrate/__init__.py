"""What this machine's load generator can do, and how true its times are, against a server that knows."""
