"""⑥ What the reader sees. Computes nothing; all rounding is in view.py."""
