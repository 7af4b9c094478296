"""Training state, updates, the compiled step, the loop and its checkpoints."""
