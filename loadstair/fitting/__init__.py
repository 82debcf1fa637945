"""The step model's constants fitted to one measured staircase. Pure but for the file that keeps them."""
