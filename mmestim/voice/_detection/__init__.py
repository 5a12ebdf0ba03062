"""The detector: fitted on clips, and applied to recordings."""
