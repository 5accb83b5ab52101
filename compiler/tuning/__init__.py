"""Schedule records and their search."""
