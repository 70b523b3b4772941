"""The built-in image set: letters and digits under random distortions, generated from a fixed seed.

36 classes, 0-9 and A-Z, in Pillow's own font in three weights; each image has its affine map, colors, gradient
behind, stray letter at the border, bar across, and noise. It is not so easy that every network gets it all right.

Glyphs are drawn large and thresholded before they are reduced, so that little depends on how a FreeType version smooths
edges. Everything after that is integer arithmetic on integers drawn by its own generator.
"""

import math
import string
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, features

from comhe.datasets.io.cache import Splits
from comhe.datasets.registry import register_dataset
from comhe.errors import DataError

from .augment import Augmentation
from .sets import Images

SEED = 3236
CLASSES = string.digits + string.ascii_uppercase
TRAIN, TEST = 250, 100  # images of each class
SIDE = 32
WEIGHTS = (0, 4, 8)  # pixels that strokes grow on each side, at the size they are drawn
DRAWN, REDUCED = 256, 64  # sides of the canvas that a glyph is drawn on, and of what it is reduced to
ONE = 1 << 16  # fixed point


@register_dataset(
    "glyphs", "images", license="MIT, made by this package",
    about="built in: 12,600 generated images of letters and digits, 32 x 32, 36 classes",
)  # fmt: skip
def load_glyphs(seed: int | None = None) -> Images:
    """Load the set; a fifth of each class of train is held out to validate."""
    options: Any = {"source": "built in: Pillow's font under seeded distortions (MIT)", "held_out": 0.2}
    options["augmentation"] = Augmentation(flip=False)  # mirrored letters are other letters
    return Images.from_arrays("glyphs", **build_glyphs(), classes=tuple(CLASSES), seed=seed, **options)


@register_dataset(
    "digits", "images", license="MIT, made by this package",
    about="built in: 3,500 generated images of digits, 16 x 16, 10 classes",
)  # fmt: skip
def load_digits(seed: int | None = None) -> Images:
    """Load the digits among them at half the size: 2,500 images of 16 x 16 pixels to train, for trials."""
    found: Splits = {}
    for split, (pixels, labels) in build_glyphs(len(string.digits)).items():
        halved = pixels.astype(np.int32).reshape(-1, SIDE // 2, 2, SIDE // 2, 2, 3).sum((2, 4)) // 4
        found[split] = halved.astype(np.uint8), labels
    options: Any = {"source": "built in: the digits of glyphs at half their size (MIT)", "held_out": 0.2}
    options["augmentation"] = Augmentation(flip=False)
    return Images.from_arrays("digits", **found, classes=tuple(string.digits), seed=seed, **options)


@lru_cache(maxsize=2)
def build_glyphs(classes: int = len(CLASSES)) -> Splits:
    """Build 250 images of each class to train and 100 to test, uint8 [n, 32, 32, 3], of the first ``classes`` only.

    Every 36 of all images in a row have all classes.
    """
    if not features.check("freetype2"):
        raise DataError("glyphs: Pillow was built without FreeType, which its font needs; install a binary wheel of it")
    draw, shapes, splits = torch.Generator().manual_seed(SEED), _shapes(), {}
    for split, count in (("train", TRAIN), ("test", TEST)):
        labels = np.tile(np.arange(len(CLASSES)), count)
        pieces = [_render(shapes, piece, draw, classes) for piece in np.split(labels, count // 5)]
        splits[split] = np.concatenate(pieces), labels[labels < classes]
    return splits


def _shapes() -> np.ndarray:
    """Coverage 0..256 of each weight's glyphs, int32 [3, 36, 64, 64], in the middle."""
    font = ImageFont.load_default(3 * DRAWN / 4)
    shapes = np.zeros((len(WEIGHTS), len(CLASSES), REDUCED, REDUCED), dtype=np.int32)
    for i, weight in enumerate(WEIGHTS):
        for j, glyph in enumerate(CLASSES):
            canvas = Image.new("L", (DRAWN, DRAWN))
            ImageDraw.Draw(canvas).text((DRAWN // 2,) * 2, glyph, 255, font, "mm", stroke_width=weight)
            black = np.asarray(canvas) >= 128
            step = DRAWN // REDUCED
            shapes[i, j] = black.reshape(REDUCED, step, REDUCED, step).sum((1, 3)) * 256 // step**2
    return shapes


def _render(shapes: np.ndarray, labels: np.ndarray, draw: torch.Generator, classes: int) -> np.ndarray:
    """One image of each label among the first ``classes``; of the others only the numbers are drawn."""
    drawn, chosen = len(labels), labels < classes
    kept = slice(None) if chosen.all() else chosen
    labels = labels[kept]
    n = len(labels)

    def between(low: int, high: int, *shape: int) -> np.ndarray:
        """Integers in low..high, [n, *shape]."""
        return torch.randint(low, high + 1, (drawn, *shape), generator=draw, dtype=torch.int32).numpy()[kept]

    y, x = np.mgrid[:SIDE, :SIDE].astype(np.int32)
    x, y = (2 * axis.ravel() - SIDE + 1 for axis in (x, y))  # in half pixels from the middle

    # Behind: a gradient in a random direction, from one color to another.
    first = between(0, 255, 3)
    light = first.sum(1) < 3 * 128
    behind = np.clip(first + between(-60, 60, 3), 0, 255)
    across = between(-ONE, ONE, 2) // (2 * SIDE)
    share = across[:, :1] * x + across[:, 1:] * y + ONE // 2  # 0..ONE, up to rounding
    image = first[:, :, None] + (((behind - first)[:, :, None] * share[:, None]) >> 16)  # [n, 3, 1024]

    def paint(cover: np.ndarray, color: np.ndarray) -> None:
        """Lay a color [n, 3] over the image where cover [n, 1024] is 256."""
        layer = color[:, :, None] - image
        layer *= cover[:, None]
        layer >>= 8
        image[...] += layer

    # A stray letter, of which the border leaves a part.
    far, aside = between(24, 34) * (2 * between(0, 1) - 1), between(-16, 16)
    away = np.where(between(0, 1, 1) == 1, np.stack([far, aside], 1), np.stack([aside, far], 1))
    stray = shapes[between(0, len(WEIGHTS) - 1), between(0, len(CLASSES) - 1)]
    paint(_sampled(stray, x, y, between(-180, 180), between(80, 130, 2), between(-30, 30), away), between(0, 255, 3))

    # The letter: lighter or darker than what is behind.
    shade = between(60, 170) * np.where(light, 1, -1)
    color = np.clip((first + behind) // 2 + shade[:, None] + between(-45, 45, 3), 0, 255)
    letter = shapes[between(0, len(WEIGHTS) - 1), labels]
    shift = between(-6, 6, 2)
    paint(_sampled(letter, x, y, between(-25, 25), between(80, 140, 2), between(-25, 25), shift), color)

    # A bar across it.
    cosine, sine = _turns(between(0, 179))
    distance = np.abs(cosine[:, None] * x + sine[:, None] * y - (between(-20, 20) * ONE)[:, None])
    bar = distance < (between(1, 3) * ONE)[:, None]
    paint(256 * bar.astype(np.int32), between(0, 255, 3))

    # Noise, the sum of two uniform ones.
    strength = between(0, 60)
    noise = between(-128, 127, SIDE * SIDE * 3) + between(-128, 127, SIDE * SIDE * 3)
    noise *= strength[:, None]
    noise >>= 8
    noise += image.swapaxes(1, 2).reshape(n, -1)
    return noise.clip(0, 255).astype(np.uint8).reshape(n, SIDE, SIDE, 3)


def _sampled(
    shapes: np.ndarray, x: np.ndarray, y: np.ndarray,
    turn: np.ndarray, size: np.ndarray, shear: np.ndarray, shift: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Shapes [n, 64, 64] turned (degrees), sized (percent [n, 2]), sheared (percent) and shifted, int32 [n, 1024]."""
    cosine, sine = _turns(turn)
    x, y = x - shift[:, :1], y - shift[:, 1:]
    # From a point of the image back to one of the shape; a half pixel here is a pixel there, at 100 percent.
    u = (cosine[:, None] * x + sine[:, None] * y) * 7 // 8
    v = (cosine[:, None] * y - sine[:, None] * x) * 7 // 8
    u += v // 100 * shear[:, None]
    middle = REDUCED * ONE // 2 - ONE // 2
    u, v = (np.clip(a // size[:, i, None] * 100 + middle, 0, (REDUCED - 1) * ONE - 1) for i, a in enumerate((u, v)))
    column, row, right, down = u >> 16, v >> 16, (u >> 8) & 255, (v >> 8) & 255
    at = (np.arange(len(shapes), dtype=np.int32)[:, None] * REDUCED + row) * REDUCED + column
    flat = shapes.ravel()
    above = flat[at] * (256 - right) + flat[at + 1] * right
    below = flat[at + REDUCED] * (256 - right) + flat[at + REDUCED + 1] * right
    return (above * (256 - down) + below * down) >> 16


def _turns(degrees: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosine and sine in fixed point, int32 [n]."""
    radians = [math.radians(d) for d in degrees.tolist()]
    cosine, sine = ([round(f(r) * ONE) for r in radians] for f in (math.cos, math.sin))
    return np.array(cosine, dtype=np.int32), np.array(sine, dtype=np.int32)
