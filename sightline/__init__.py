"""sightline: self-attention for sequences of any length, with its rivals beside it."""
