"""Scans of files and the HTML report on them."""
