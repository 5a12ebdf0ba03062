"""Simulation of edits: plans are sampled, then applied to clips."""
