"""Files of this folder that only mypy reads."""

collect_ignore = ["consumer.py", "mistakes.py"]
