"""Signal processing that several edits use: codecs, stretching, rooms, autotune."""
