"""A staircase foretold: the simulated engine's scheduler and step times under the plan's load, in simulated time."""
