"""Training objectives of the classifiers."""
