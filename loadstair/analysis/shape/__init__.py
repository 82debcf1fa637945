"""Loads of another shape than a staircase: soak and spike."""
