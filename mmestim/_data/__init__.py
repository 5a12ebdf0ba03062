"""Rows of several modalities: validation, reading, batches and splits of X."""
