"""One image of any origin to pixels: uint8 [height, width, 3], red, green and blue."""

import contextlib
import io
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from comhe.errors import DataError, UsageError, needs, warn

from .signatures import stand_in

EXTENSIONS = {
    ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
}  # fmt: skip
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # by content: ImageNet has a PNG file named .JPEG
UNKNOWN = f"cannot identify it as {', '.join(FORMATS)}; convert it to one of these"
MAX_PIXELS = 1 << 26  # of one image; decoding takes up to 16 bytes for each
FAINT = 1 << 13  # the largest number of a 16-bit image below which it is told: it has less than 13 bits
SCALE = "if the images of its set are 0..4095 (12 bits) or the like, scale all of them to 0..65535"
CHANNELS = (1, 3, 4)  # gray, RGB, RGBA
ORIENTATION = 0x0112  # in EXIF data
DEEP = re.compile(r"\b(LA|RGB[AX]?);16[BLN]")  # Pillow's names of what a file has 16 bits a channel of
PHOTOMETRIC = 0x0106  # of TIFF: 0 is white where it is 0; Pillow inverts 8 bits, but not 16
_T = Image.Transpose
TURNS = {
    2: _T.FLIP_LEFT_RIGHT, 3: _T.ROTATE_180, 4: _T.FLIP_TOP_BOTTOM, 5: _T.TRANSPOSE, 6: _T.ROTATE_270, 7: _T.TRANSVERSE,
    8: _T.ROTATE_90,
}  # fmt: skip


def decode(path: str | IO[bytes]) -> Image.Image:
    """Decode a file to RGB, as :func:`to_rgb`; of several frames the first one is used."""
    with _opened(path) as image:
        return to_rgb(image)


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image to RGB: gray is repeated, 16 bits become 8 (:func:`eight_bits`), transparency lies on white.

    It is turned upright as the camera noted in its EXIF data.
    """
    is_deep = any(DEEP.search(str(tile.args)) for tile in getattr(image, "tile", ()))
    image.load()
    white_is_zero = dict(getattr(image, "tag_v2", {})).get(PHOTOMETRIC) == 0
    source, image = image.format, _upright(image)
    if image.mode == "I" and source in ("PNG", "PPM"):  # 16 bits, which Pillow makes 32
        image = Image.fromarray(np.asarray(image).astype(np.uint16))
    if image.mode in ("I", "F"):
        raise DataError(
            f"has numbers of an unknown range (mode {image.mode}: 32 bits, or signed); save it with 8 or 16 bits"
        )
    if image.mode.startswith("I;16"):  # convert() would cut off at 255
        pixels = np.asarray(image)
        image = Image.fromarray(eight_bits(0xFFFF - pixels if white_is_zero else pixels))
    elif is_deep and np.asarray(image)[..., :3].max() < FAINT >> 8:  # Pillow keeps the higher byte
        warn(f"an image of 16 bits a channel is black, or nearly so: no number is above {FAINT - 1}; {SCALE}")
    if image.mode in ("La", "RGBa"):  # multiplied by alpha
        image = image.convert(image.mode.upper())
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
        image = white
    return image.convert("RGB")


def eight_bits(pixels: np.ndarray) -> np.ndarray:
    """Return the higher byte of 16 bits; the lower one where no number is above 255, as those are 8 bits already.

    A warning tells where the largest number leaves in doubt what the range is: 16 bits are 0..65535 here, so pictures
    of 12 bits in them should be multiplied by 16.

    Example:
        >>> [eight_bits(np.array(pixels, np.uint16)).tolist() for pixels in ([0, 255, 65535], [0, 7, 255])]
        [[0, 0, 255], [0, 7, 255]]
    """
    top = int(pixels.max(initial=0))
    if 0 < top < FAINT:
        reading = "8 bits, as no number is above 255" if top <= 255 else "0..65535, though no number is above 8191"
        warn(f"an image of 16 bits is read as {reading}; {SCALE}")
    return (pixels if top <= 255 else pixels >> 8).astype(np.uint8)


def image_size(path: str) -> tuple[int, int]:
    """Return width and height, upright, without decoding."""
    with _opened(path) as image:
        width, height = image.size
        turned = image.format != "TIFF" and _orientation(image) >= 5  # Pillow has turned a TIFF image
        return (height, width) if turned else (width, height)


def _orientation(image: Image.Image) -> int:
    """The orientation in the EXIF data, or 1, which is upright, if there is none or the data are damaged."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # Pillow raises whatever the damage causes
        return 1
    return value if value in TURNS else 1


def _upright(image: Image.Image) -> Image.Image:
    orientation = _orientation(image)
    return image if orientation == 1 else image.transpose(TURNS[orientation])


def fit(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return the image itself if it has this width and height; else resize it to cover them, and crop the center."""
    return image if image.size == size else ImageOps.fit(image, size, Image.Resampling.BILINEAR)


def center(resize: int, size: int | tuple[int, ...]) -> Callable[[Image.Image], Image.Image]:
    """Return torchvision's evaluation: resize the shorter side, crop the center."""
    with needs("zoo", "resizing as torchvision does"):
        from torchvision.transforms import v2  # takes a second to import

    return v2.Compose([v2.Resize(resize), v2.CenterCrop(size)])


def to_images(inputs: Any, size: tuple[int, int]) -> list[Image.Image]:
    """Convert images of any origin to RGB: PIL images, files, arrays and tensors, one of them or several in a list.

    In arrays [h, w, c], [c, h, w] and batches of either, the axis of 1, 3 or 4 is the channels (gray, RGB, RGBA); gray
    may be [h, w]. If both may be, those are the channels beside which the ``size``, height and width, is the network's.
    Numbers are uint8, other integers of 0..255, uint16 (see :func:`eight_bits`), or floats of 0..1; they may be in
    nested lists. Files are paths, open files or their bytes; of several frames the first one is used.
    """
    if hasattr(inputs, "read"):  # a file that is open; one can iterate over it, too
        return [decode(inputs)]
    if isinstance(inputs, bytes | bytearray | memoryview):
        return [decode(io.BytesIO(inputs))]
    if isinstance(inputs, list | tuple) and _is_numbers(inputs):
        try:
            inputs = np.asarray(inputs)
        except ValueError as error:
            raise UsageError("the rows of an image in lists are not of one length") from error
    if isinstance(inputs, list | tuple | Iterator):
        return [image for each in inputs for image in to_images(each, size)]
    if isinstance(inputs, str | os.PathLike):
        return [decode(os.fspath(inputs))]
    if isinstance(inputs, Image.Image):
        try:
            return [to_rgb(inputs)]
        except Exception as error:  # it may be decoded only now, and Pillow raises whatever damage causes
            raise DataError(f"the image cannot be used ({' '.join(str(error).split())})") from error
    if isinstance(inputs, torch.Tensor):
        inputs = inputs.detach().cpu()
        inputs = inputs.double() if inputs.is_floating_point() else inputs  # numpy has no bfloat16
    elif not hasattr(inputs, "__array__"):
        raise UsageError(f"an image is a PIL image, a file, an array or a tensor, not a {type(inputs).__name__}")
    pixels = np.asarray(inputs)
    pixels = _bytes(_channels_last(pixels, size))
    return [to_rgb(Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)) for image in pixels]


def _is_numbers(inputs: Any) -> bool:
    """Whether lists in lists end in numbers."""
    while isinstance(inputs, list | tuple):
        inputs = next(iter(inputs), None)
    return isinstance(inputs, int | float | np.number)


def _channels_last(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return images [B, h, w, c]."""
    shape = list(pixels.shape)
    if pixels.ndim == 2:
        return pixels[None, :, :, None]
    if pixels.ndim not in (3, 4) or 0 in shape[-3:]:
        raise UsageError(f"images must be [h, w], [h, w, c], [c, h, w] or batches of the latter two, not {shape}")
    batch = pixels if pixels.ndim == 4 else pixels[None]
    orders = [order for order in (batch, batch.transpose(0, 2, 3, 1)) if order.shape[3] in CHANNELS]
    if len(orders) == 2:
        orders = [order for order in orders if order.shape[1:3] == size]
    if len(orders) != 1:
        axes = "either the first axis of an image or the last one must be 1, 3 or 4 channels, but not both"
        raise UsageError(f"images {shape}: {axes}; permute or reshape them to [B, h, w, c]")
    return orders[0]


def _bytes(pixels: np.ndarray) -> np.ndarray:
    kind = pixels.dtype
    if kind.kind == "u" and kind.itemsize == 2:
        return eight_bits(pixels)
    if kind.kind == "b":
        return pixels.astype(np.uint8) * 255
    if kind.kind not in "fiu":
        raise UsageError(f"images must be numbers, not {kind}")
    low, high = (pixels.min(), pixels.max()) if pixels.size else (0, 0)
    top = 1 if kind.kind == "f" else 255
    slack = 0.5 / 255 if kind.kind == "f" else 0  # what resizing may exceed by rounding is no other number of 8 bits
    if not -slack <= low <= high <= top + slack:
        raise UsageError(
            f"pixels are in {low:.6g}..{high:.6g}, not in 0..{top}: give them as they were before any "
            "normalization, uint8 in 0..255 or floats in 0..1"
        )
    return np.rint(pixels.clip(0, 1) * 255.0).astype(np.uint8) if kind.kind == "f" else pixels.astype(np.uint8)


@contextlib.contextmanager
def _opened(path: str | IO[bytes]) -> Iterator[Image.Image]:
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:  # before they are decoded
                raise DataError(f"claims {image.width} x {image.height} pixels, more than {MAX_PIXELS:,}")
            yield image
    except Exception as error:  # Pillow's decoders raise whatever the damage makes them raise
        reason = getattr(error, "strerror", None) or str(error)
        reason = " ".join(reason.split()) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            reason = (isinstance(path, str) and stand_in(Path(path))) or UNKNOWN
        name = path if isinstance(path, str) else getattr(path, "name", "the bytes of an image")
        raise DataError(f"{name}: cannot be decoded ({reason})") from error
