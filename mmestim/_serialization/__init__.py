"""Model files: their bytes, their JSON header, and networks rebuilt from it without memory."""
