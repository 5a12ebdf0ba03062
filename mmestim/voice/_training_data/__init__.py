"""Windows that detectors are trained on, with their labels."""
