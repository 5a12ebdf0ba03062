"""Helpers that depend on no other subpackage: checks, docstrings, atomic writes, segment formats, malloc and more."""
