"""Commands of the command line that have many options."""
