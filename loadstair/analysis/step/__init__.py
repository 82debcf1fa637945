"""One step: what was measured in its hold, and whether it may be used."""
