"""Constants that the models, their networks and their training share."""

from __future__ import annotations

# Samples per second of every waveform that a model sees.
RATE = 16000
# Shortest clip that models are trained on, and for which all statistics are defined, in seconds.
MIN_SECONDS = 0.35

# Logit of a frame past the end of a clip: it costs nothing in a loss and is never a maximum.
PAST_END_LOGIT = -30.0
# Frames with a higher logit are inside the clip. The margin allows for rounding.
MIN_FRAME_LOGIT = PAST_END_LOGIT + 1.0
