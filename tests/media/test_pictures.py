"""Readers of images and videos."""

from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from numpy.testing import assert_allclose, assert_array_equal

from mmestim.media import ImagePixels, MediaError, VideoFrames

Image = pytest.importorskip("PIL.Image")
PICTURE = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)


@pytest.mark.parametrize("suffix", ["png", "bmp", "webp", "tiff"])
def test_images_of_the_same_size_keep_their_pixels(suffix, tmp_path):
    Image.fromarray(PICTURE).save(tmp_path / f"a.{suffix}", **({"lossless": True} if suffix == "webp" else {}))
    block = ImagePixels(size=(20, 30)).fit_transform([tmp_path / f"a.{suffix}"])
    assert block.dtype == np.uint8
    assert_array_equal(block[0], np.moveaxis(PICTURE, -1, 0))


def test_images_are_resized_whole(tmp_path):
    halves = np.zeros((40, 100), np.uint8)
    halves[:, 50:] = 200
    Image.fromarray(halves).save(tmp_path / "a.png")
    gray = ImagePixels(size=(10, 10), color="gray").fit_transform([tmp_path / "a.png"])[0]
    assert gray.shape == (10, 10)
    assert_array_equal(gray[:, :4], 0)
    assert_array_equal(gray[:, 6:], 200)


def test_orientation_transparency_and_depth(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # The camera was turned: show it turned clockwise.
    Image.fromarray(PICTURE).save(tmp_path / "turned.png", exif=exif)
    turned = ImagePixels(size=(30, 20)).fit_transform([tmp_path / "turned.png"])[0]
    assert_array_equal(turned, np.moveaxis(np.rot90(PICTURE, -1), -1, 0))
    Image.fromarray(np.zeros((4, 4, 4), np.uint8)).save(tmp_path / "clear.png")
    assert_array_equal(ImagePixels(size=(4, 4)).fit_transform([tmp_path / "clear.png"]), 255)
    deep = np.array([[0, 65535], [32896, 257]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    block = ImagePixels(size=(2, 2), color="gray").fit_transform([tmp_path / "deep.png"])
    assert_array_equal(block[0], [[0, 255], [128, 1]])


def test_what_is_not_one_image_is_named(tmp_path):
    picture = Image.fromarray(PICTURE)
    picture.save(tmp_path / "two.gif", save_all=True, append_images=[Image.fromarray(255 - PICTURE)])
    picture.save(tmp_path / "cut.png")
    content = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.png").write_text("no image")
    Image.fromarray(np.full((2, 2), 1.5, np.float32)).save(tmp_path / "float.tiff")
    problems = {
        "two.gif": "animation of 2",
        "cut.png": "cannot be decoded",
        "text.png": "not an image",
        "float.tiff": "float",
    }
    for name, problem in problems.items():
        with pytest.raises(MediaError, match=f"{name}: .*{problem}"):
            ImagePixels().fit_transform([tmp_path / name])


def test_the_first_image_of_a_photo_with_previews_is_read(tmp_path):
    picture = Image.fromarray(np.full((8, 8, 3), 200, np.uint8))
    picture.save(tmp_path / "photo.jpg", format="MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))])
    assert ImagePixels(size=(2, 2)).fit_transform([tmp_path / "photo.jpg"]).min() > 195


def test_frames_before_the_start_of_a_trimmed_clip_do_not_count(tmp_path):
    with av.open(str(tmp_path / "whole.mp4"), "w") as file:
        video = file.add_stream("libx264", rate=10)
        video.height, video.width, video.pix_fmt = 48, 64, "yuv420p"
        for number in range(40):
            picture = np.full((48, 64, 3), 6 * number, np.uint8)
            file.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(video.encode(None))
    with av.open(str(tmp_path / "whole.mp4")) as whole, av.open(str(tmp_path / "cut.mp4"), "w") as cut:
        stream = whole.streams.video[0]
        copy = cut.add_stream_from_template(stream)
        for packet in whole.demux(stream):  # without encoding, so that the frames before the cut remain in the file
            if packet.size:
                packet.pts -= round(1.5 / stream.time_base)
                packet.dts -= round(1.5 / stream.time_base)
                packet.stream = copy
                cut.mux(packet)
    frames = VideoFrames(n_frames=1, size=(4, 4), color="gray").fit_transform([tmp_path / "cut.mp4"])
    assert_allclose(frames[0, 0, 0, 0, 0], 6 * (15 + 12), atol=6)


@pytest.mark.parametrize("n_frames", [1, 3, 24, 30])
def test_frames_are_the_middles_of_equal_parts(n_frames, make_video, tmp_path):
    path = make_video(tmp_path / "a.mp4")
    frames = VideoFrames(n_frames=n_frames, size=(24, 32), color="gray").fit_transform([path])[0]
    assert frames.shape == (n_frames, 1, 24, 32)
    frames = frames[:, 0]
    numbers = np.floor(24 * (np.arange(n_frames) + 0.5) / n_frames)
    assert_allclose(frames[:, 12, 8], 250 * (numbers + 0.5) / 24, atol=6)
    assert frames[:, :, 20:].max() < 12


def test_containers_and_rotation_do_not_change_the_frames(make_video, tmp_path):
    reader = VideoFrames(n_frames=2, size=(32, 32)).fit(["a"])
    mp4 = reader.transform([make_video(tmp_path / "a.mp4")])
    assert mp4.shape == (1, 2, 3, 32, 32)
    for suffix in ("mkv", "avi", "ts", "m4v"):  # the last one is a stream without a container
        other = reader.transform([make_video(tmp_path / f"a.{suffix}", tone=0)])
        assert_allclose(other.astype(int), mp4.astype(int), atol=3)
    # A quarter turn counterclockwise moves the bright left half to the bottom.
    turned = reader.transform([make_video(tmp_path / "turned.mp4", rotation=90)])
    assert_allclose(turned.astype(int), np.rot90(mp4, axes=(3, 4)).astype(int), atol=3)


def test_what_is_no_video_is_named(make_video, tmp_path):
    path = make_video(tmp_path / "cut.mkv", tone=0)
    (tmp_path / "cut.mp4").write_bytes(Path(path).read_bytes()[:100])
    (tmp_path / "text.mp4").write_text("no video")
    soundfile.write(tmp_path / "sound.wav", np.zeros(100), 8000)
    Image.fromarray(PICTURE).save(tmp_path / "image.jpg")
    for name, problem in {
        "cut.mp4": "damaged",
        "text.mp4": "damaged",
        "sound.wav": "contains no video",
        "image.jpg": "is an image",
    }.items():
        with pytest.raises(MediaError, match=f"{name}.*{problem}"):
            VideoFrames().fit_transform([tmp_path / name])


def test_the_cover_of_a_song_is_no_video(tmp_path):
    path = tmp_path / "song.mp3"
    with av.open(str(path), "w") as file:
        sound, cover = file.add_stream("libmp3lame", rate=44100), file.add_stream("png", rate=1)
        cover.height, cover.width, cover.pix_fmt = 20, 30, "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        file.mux([*cover.encode(av.VideoFrame.from_ndarray(PICTURE, format="rgb24")), *cover.encode(None)])
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 44100), np.float32), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = 44100, 0
        file.mux([*sound.encode(frame), *sound.encode(None)])
    with pytest.raises(MediaError, match="contains no video"):
        VideoFrames().fit_transform([path])


@pytest.mark.parametrize("size", [112, (112,), (0, 5), (1.5, 2)])
def test_sizes_are_checked(size):
    with pytest.raises(ValueError, match=r"size=.* must be \(height, width\)"):
        ImagePixels(size=size).fit(["a.png"])
    with pytest.raises(ValueError, match=r"size=.* must be \(height, width\)"):
        VideoFrames(size=size).fit(["a.mp4"])
