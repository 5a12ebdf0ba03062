"""Helpers that know nothing of estimators: checks of parameters, whole files, memory, torchaudio."""
