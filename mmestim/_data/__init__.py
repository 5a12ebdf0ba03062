"""Rows of several modalities: how `X` is read, batched and split."""
