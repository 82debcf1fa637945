"""The test matrix of a classical plan."""
