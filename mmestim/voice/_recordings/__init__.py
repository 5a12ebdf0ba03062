"""Recordings as people have them: their channels, and whether they contain speech."""
