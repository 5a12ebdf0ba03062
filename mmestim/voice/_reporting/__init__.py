"""Scans of files and the HTML report of their results."""
