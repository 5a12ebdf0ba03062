"""Reading of audio files, resampling, trimming and cutting into windows."""
