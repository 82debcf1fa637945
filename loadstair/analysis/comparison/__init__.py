"""Two topologies against each other."""
