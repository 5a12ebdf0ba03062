"""Simulation of edits: plans are sampled and applied to clips."""
