"""Audio: read from files, resampled, trimmed, cut into windows."""
