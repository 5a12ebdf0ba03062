"""Models of windows, from trees to networks, and the calibration of their scores."""
