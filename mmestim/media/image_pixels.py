"""Reader of images."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from .._utils.validation import check_choice
from ._base import MediaError, Reader, Sample, Shape, check_path, check_size

Color = Literal["rgb", "gray"]


class ImagePixels(Reader):
    """Read images at one size.

    >>> from mmestim.media import ImagePixels
    >>> ImagePixels("photo", size=(112, 112)).sample_shape
    (3, 112, 112)

    Pillow decodes the files. The orientation that a camera noted is applied, transparent parts become white, and 16-bit
    images are scaled to 8 bits. An animation is an error, because one picture is not all of it.

    Parameters
    ----------
    column : str, default=None
        Column of paths in a DataFrame. `None` reads X itself, such as a list of paths.
    size : (int, int), default=(112, 112)
        Height and width in pixels. The whole image is resized to it, whatever its aspect ratio.
    color : {'rgb', 'gray'}, default='rgb'
        Channels of the result.

    Attributes
    ----------
    sample_shape : tuple of int
        (3, height, width), or (height, width) for gray.

    See Also
    --------
    VideoFrames : Frames of videos.
    MediaTransformer : Several readers with a cache.
    """

    def __init__(self, column: str | None = None, *, size: tuple[int, int] = (112, 112), color: Color = "rgb") -> None:
        self.column = column
        self.size = size
        self.color = color

    @property
    def sample_shape(self) -> Shape:
        """Shape of an image, channels first."""
        return (3, *self.size) if self.color == "rgb" else tuple(self.size)

    @property
    def sample_dtype(self) -> np.dtype[Any]:
        """Type of the pixels, uint8."""
        return np.dtype(np.uint8)

    def read(self, value: Any) -> Sample:
        """Read one image.

        Parameters
        ----------
        value : path
            The file.

        Returns
        -------
        Sample
            Array of uint8 of shape `sample_shape`.

        Raises
        ------
        MediaError
            If the file is damaged, or is not one image.
        """
        from PIL import Image, ImageOps, UnidentifiedImageError

        path = check_path(value)
        try:
            with Image.open(path) as file:
                # The first image of an MPO file is the photo; the others are previews or depths.
                if (n_images := getattr(file, "n_frames", 1)) > 1 and file.format != "MPO":
                    raise MediaError(path, f"is an animation of {n_images} images. Save one of them as a file.")
                image = ImageOps.exif_transpose(file)
                image.load()
        except UnidentifiedImageError as error:
            raise MediaError(path, "is not an image in a supported format.") from error
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            if isinstance(error, MediaError):
                raise
            raise MediaError(path, f"cannot be decoded: {error}. Download or export it again.") from error
        image = _to_8_bits(path, image).convert({"rgb": "RGB", "gray": "L"}[self.color])
        pixels = np.asarray(image.resize((self.size[1], self.size[0]), Image.Resampling.BILINEAR))
        return Sample(np.moveaxis(pixels, -1, 0) if self.color == "rgb" else pixels)

    def _check_parameters(self) -> None:
        check_size("size", self.size)
        check_choice("color", self.color, ("rgb", "gray"))
        try:
            import PIL  # noqa: F401
        except ImportError as error:
            raise ImportError("ImagePixels needs Pillow: pip install 'mmestim[media]'.") from error


def _to_8_bits(path: str, image: Any) -> Any:
    """Return an image of 8 bits without transparency."""
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits, which Pillow's `convert` would clip
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise MediaError(path, f"has pixels from {values.min()} to {values.max()}, expected at most 16 bits.")
        return Image.fromarray((values // 257).astype(np.uint8))
    if image.mode == "F":
        raise MediaError(path, "has pixels of floating-point numbers without a known range. Convert it to 8 bits.")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image
