"""Helpers that do not depend on other rooms: parameter checks, atomic writes, malloc, torchaudio."""
