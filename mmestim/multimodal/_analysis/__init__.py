"""Measures of fitted classifiers: scores of the true class, the modality gap, Shapley values."""
