"""Networks that map the block of one modality to a feature vector."""
