"""Networks as compositions of layers (lecture 8, 16)."""
