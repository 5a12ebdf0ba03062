"""Training loop on skorch, with its options, devices and checkpoints."""
