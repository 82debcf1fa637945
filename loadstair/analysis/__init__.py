"""⑤ What it means. Pure: no I/O, no clock; randomness is an argument."""
