"""All steps of one topology: its capacity, and where the next step belongs."""
