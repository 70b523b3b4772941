"""Odd images are decoded as documented, and damaged ones are refused in one line."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from comhe.datasets import DataError
from comhe.errors import UsageError
from comhe.inputs.pixels import EXTENSIONS, decode, eight_bits, image_size, to_images

from ..datasets.images.conftest import smooth

RAMP = np.arange(0, 240, 10, dtype=np.uint8).reshape(4, 6)


COLORS = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], 2)


def read(image: Image.Image | bytes, tmp_path, suffix=".png", **how) -> np.ndarray:
    path = tmp_path / f"image{suffix}"
    path.write_bytes(image) if isinstance(image, bytes) else image.save(path, **how)
    result = decode(str(path))
    assert result.mode == "RGB"
    return np.asarray(result)


def test_gray_is_repeated(tmp_path):
    expected = np.repeat(RAMP[:, :, None], 3, 2)
    assert np.array_equal(read(Image.fromarray(RAMP), tmp_path), expected)
    sixteen = Image.fromarray(RAMP.astype(np.uint16) * 256 + 77)
    assert sixteen.mode == "I;16"
    assert np.array_equal(read(sixteen, tmp_path), expected)
    map16 = b"P5\n6 4\n65535\n" + (RAMP.astype(">u2") * 256 + 77).astype(">u2").tobytes()
    assert np.array_equal(read(map16, tmp_path, ".pgm"), expected)
    one = Image.fromarray(RAMP > 100)
    assert np.array_equal(read(one, tmp_path), 255 * np.repeat((RAMP > 100)[:, :, None], 3, 2))


def test_transparent_parts_lie_on_white(tmp_path):
    alpha = np.full((4, 6), 255, dtype=np.uint8)
    alpha[0], alpha[1] = 0, 51
    expected = COLORS.astype(float)
    expected[0] = 255
    expected[1] = 0.2 * expected[1] + 0.8 * 255
    found = read(Image.fromarray(np.dstack([COLORS, alpha])), tmp_path)
    assert np.abs(found - expected).max() <= 1
    assert np.array_equal(found[2:], COLORS[2:])
    gray = read(Image.fromarray(np.dstack([RAMP, alpha]), mode=None), tmp_path)
    assert (gray[0] == 255).all()
    assert np.array_equal(gray[2:, :, 0], RAMP[2:])
    palette = Image.fromarray(COLORS).quantize(8)
    index = np.asarray(palette)
    found = read(palette, tmp_path, transparency=int(index[0, 0]))
    assert (found[index == index[0, 0]] == 255).all()
    assert (found[index != index[0, 0]] != 255).any(1).all()
    keyed = read(Image.fromarray(COLORS), tmp_path, transparency=tuple(COLORS[3, 5].tolist()))
    assert (keyed[3, 5] == 255).all()
    assert np.array_equal(keyed[:3], COLORS[:3])


def test_other_modes_and_formats(tmp_path):
    assert np.array_equal(read(Image.fromarray(COLORS).quantize(24), tmp_path, ".tiff"), COLORS)
    for suffix in (".bmp", ".ppm", ".tif", ".png"):
        assert np.array_equal(read(Image.fromarray(COLORS), tmp_path, suffix), COLORS)
    assert np.array_equal(read(Image.fromarray(COLORS), tmp_path, ".webp", lossless=True), COLORS)
    cmyk = read(smooth(0, 32, 32).convert("CMYK"), tmp_path, ".jpg", quality=95).astype(int)
    assert np.abs(cmyk - np.asarray(smooth(0, 32, 32))).mean() < 4
    buffer = io.BytesIO()
    Image.fromarray(COLORS).save(buffer, "PNG")
    assert np.array_equal(read(buffer.getvalue(), tmp_path, ".JPEG"), COLORS), "ImageNet has such a file"


def test_sixteen_bits_of_which_only_eight_are_used_are_not_black(tmp_path):
    """In a file and in an array alike."""
    expected = np.repeat(RAMP[:, :, None], 3, 2)
    for factor in (1, 257):
        pixels = RAMP.astype(np.uint16) * factor
        assert np.array_equal(eight_bits(pixels), RAMP)
        for suffix in (".png", ".tif"):
            assert np.array_equal(read(Image.fromarray(pixels), tmp_path, suffix), expected)
        for given in (pixels, pixels.astype(">u2"), pixels[..., None]):
            (found,) = to_images(given, (4, 6))
            assert np.array_equal(np.asarray(found), expected)


def test_of_moving_images_the_first_frame_is_used(tmp_path):
    first, second = (Image.fromarray(pixels).quantize(24) for pixels in (COLORS, COLORS[::-1]))
    for suffix in (".gif", ".tif"):
        assert np.array_equal(read(first, tmp_path, suffix, save_all=True, append_images=[second]), COLORS)
    rgb = [image.convert("RGB") for image in (first, second)]
    moving = {"save_all": True, "append_images": rgb[1:], "lossless": True}
    assert np.array_equal(read(rgb[0], tmp_path, ".webp", **moving), COLORS)
    index = np.asarray(first)
    clear = int(index[0, 0])
    found = read(first, tmp_path, ".gif", transparency=clear)
    assert (found[index == clear] == 255).all()
    photo = read(
        smooth(0, 32, 32), tmp_path, ".jfif", format="MPO", quality=95, save_all=True, append_images=[smooth(1, 32, 32)]
    )
    assert np.abs(photo.astype(int) - np.asarray(smooth(0, 32, 32))).mean() < 4
    assert {".gif", ".jfif", ".webp", ".tif", ".bmp"} <= EXTENSIONS


def test_images_in_every_form_are_the_same():
    buffer = io.BytesIO()
    Image.fromarray(COLORS).save(buffer, "PNG")
    data = buffer.getvalue()
    forms = [COLORS, COLORS.tolist(), (COLORS / 255).tolist(), [COLORS.tolist()], [[COLORS]], (c for c in [COLORS])]
    forms += [data, bytearray(data), memoryview(data), io.BytesIO(data), [data], COLORS.astype(np.int32)]
    for form in forms:
        (found,) = to_images(form, (4, 6))
        assert np.array_equal(np.asarray(found), COLORS)
    assert to_images([], (4, 6)) == to_images(np.zeros((0, 4, 6, 3), np.uint8), (4, 6)) == []


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        (None, "not a NoneType"), ([None], "not a NoneType"), (7, "not a int"), ({"image": RAMP}, "not a dict"),
        ([[1, 2], [3]], "not of one length"), (COLORS * 5.0, r"0\.\.1150, not in 0\.\.1"),
        (COLORS.astype(np.int32) * 5, r"0\.\.1150, not in 0\.\.255"), (COLORS * np.nan, "nan"),
        (COLORS.astype(np.int16) - 3, r"-3\.\.227"), (COLORS.astype(object), "not object"), (RAMP[0], "not \\[6\\]"),
        (b"abc", "^the bytes of an image: cannot be decoded"), (b"", "cannot be decoded"), (".", "cannot be decoded"),
    ],
)  # fmt: skip
def test_what_is_not_an_image_is_told(given, fault):
    with pytest.raises((UsageError, DataError), match=fault) as error:
        to_images(given, (4, 6))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", range(10))
def test_an_image_is_turned_upright(tmp_path, orientation, suffix):
    """As Pillow's own function turns it, whatever the format; 0 and 9 mean nothing."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    how = {"lossless": True} if suffix == ".webp" else {}
    turned = read(Image.fromarray(COLORS), tmp_path, suffix, exif=exif, **how)
    image = Image.fromarray(COLORS)
    image.getexif()[0x0112] = orientation
    expected = ImageOps.exif_transpose(image)
    assert np.array_equal(turned, np.asarray(expected))
    assert image_size(str(tmp_path / f"image{suffix}")) == expected.size


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_notes_of_a_camera_are_no_reason_to_refuse(tmp_path):
    assert np.array_equal(read(Image.fromarray(COLORS), tmp_path, exif=b"Exif\0\0MM\0\x2a\xff\xff\xff\xff"), COLORS)


def test_images_of_unknown_range_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"image\.tif: cannot be decoded \(has numbers of an unknown range \(mode F"):
        read(Image.fromarray(RAMP.astype(np.float32)), tmp_path, ".tif")


def test_a_huge_claim_is_refused(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(COLORS).save(buffer, "BMP")
    huge = bytearray(buffer.getvalue())
    huge[18:26] = struct.pack("<ii", 30_000, 30_000)
    with pytest.raises(DataError, match="cannot be decoded"):
        read(bytes(huge), tmp_path, ".bmp")


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data", "ignore:Truncated File Read")
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp", ".tif"])
def test_truncated_images_are_refused_or_whole(suffix, tmp_path):
    image = smooth(1, 24, 20)
    whole = read(image, tmp_path, suffix)
    data = (tmp_path / f"image{suffix}").read_bytes()
    refused = 0
    for end in range(0, len(data), max(1, len(data) // 150)):
        try:
            found = read(data[:end], tmp_path, suffix)
        except DataError as error:
            assert f"image{suffix}: cannot be decoded" in str(error)  # noqa: PT017 - others are whole
            assert "\n" not in str(error)  # noqa: PT017
            refused += 1
        else:
            assert np.array_equal(found, whole)
    assert refused > 50


@pytest.mark.parametrize(("top", "said"), [(4095, "read as 0..65535, though"), (255, "read as 8 bits, as no number")])
def test_the_range_of_sixteen_bits_is_told_where_it_is_in_doubt(tmp_path, top, said):
    pixels = np.full((4, 6), top, np.uint16)
    with pytest.warns(UserWarning, match=f"{said}.*12 bits"):
        eight_bits(pixels)
    with pytest.warns(UserWarning, match=said):
        read(Image.fromarray(pixels), tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        eight_bits(np.array([0, 65535], np.uint16))
        eight_bits(np.array([0, 0], np.uint16))


@pytest.mark.parametrize("bits", [8, 16])
def test_of_a_tiff_file_zero_may_be_white(tmp_path, bits):
    expected = np.repeat(RAMP[:, :, None], 3, 2)
    inverted = 255 - RAMP if bits == 8 else 0xFFFF - RAMP.astype(np.uint16) * 257
    buffer = io.BytesIO()
    Image.fromarray(inverted).save(buffer, "TIFF")
    entry = struct.pack("<HHIH", 262, 3, 1, 1)  # photometric interpretation, a short: 1, zero is black
    assert buffer.getvalue().count(entry) == 1
    tiff = buffer.getvalue().replace(entry, struct.pack("<HHIH", 262, 3, 1, 0))
    assert np.array_equal(read(tiff, tmp_path, ".tif"), expected)


def png_of_sixteen_bits(pixels: np.ndarray) -> bytes:
    """Color [h, w, 3], which Pillow reads, but does not write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width, _ = pixels.shape
    rows = zlib.compress(b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels))
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_colors_of_sixteen_bits_that_come_out_black_are_told(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(read(png_of_sixteen_bits(COLORS.astype(np.uint16) * 257), tmp_path), COLORS)
    for factor in (1, 16):  # 8 bits, and 12
        with pytest.warns(UserWarning, match=r"black, or nearly so: no number is above 8191; .*scale all of them"):
            read(png_of_sixteen_bits(COLORS.astype(np.uint16) * factor), tmp_path)


def test_sixteen_bits_a_pixel_are_not_sixteen_a_channel(tmp_path):
    """A bitmap of 5, 6 and 5 bits may be dark."""
    info = struct.pack("<IiiHHIIiiII", 40, 2, 1, 1, 16, 3, 4, 0, 0, 0, 0) + struct.pack("<III", 0xF800, 0x07E0, 0x001F)
    size = 14 + len(info) + 4
    bitmap = b"BM" + struct.pack("<IHHI", size, 0, 0, size - 4) + info + struct.pack("<HH", 0, 0x0800)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(bitmap, tmp_path, ".bmp").max() < 32
