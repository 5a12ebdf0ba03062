"""Statistics of clips, computed without learning."""
