"""Helpers that depend on no other subpackage: parameter checks, docstrings, atomic writes, malloc, torchaudio."""
