"""File format of models, values as JSON, and networks rebuilt without allocating memory."""
