"""Detector of voice edits: training, inference, saving and explanations."""
