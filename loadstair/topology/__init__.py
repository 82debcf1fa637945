"""② Something to measure: brings a topology up, waits until it is ready, takes it down whatever happens."""
