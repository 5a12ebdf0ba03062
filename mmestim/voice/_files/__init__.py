"""Opening and decoding of audio and video files."""
