"""Files of sound, pictures and video."""

import av
import numpy as np
import pytest

RATE = 16000


@pytest.fixture(scope="session")
def make_video():
    """Function that writes a video of a colour that turns from dark to bright, with or without a tone."""

    def make_video(path, *, n_frames=24, tone=300.0, rotation=0, codec="mpeg4", size=(48, 64)):
        with av.open(str(path), "w") as container:
            video = container.add_stream(codec, rate=12)
            video.height, video.width, video.pix_fmt = *size, "yuv420p"
            video.codec_context.qmin = video.codec_context.qmax = 2
            if rotation:
                video.set_display_rotation(rotation)
            if tone:
                audio = container.add_stream("aac", rate=RATE)
                audio.layout = "mono"
            for number in range(n_frames):
                picture = np.zeros((*size, 3), np.uint8)
                picture[:, : size[1] // 2] = round(250 * (number + 0.5) / n_frames)  # only the left half is bright
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
            if tone:
                t = np.arange(round(RATE * n_frames / 12)) / RATE
                waveform = (0.2 * np.sin(2 * np.pi * tone * t)).astype(np.float32)
                frame = av.AudioFrame.from_ndarray(waveform[None], format="fltp", layout="mono")
                frame.sample_rate, frame.pts = RATE, 0
                container.mux(audio.encode(frame))
                container.mux(audio.encode(None))
        return str(path)

    return make_video
