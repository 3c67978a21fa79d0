"""Every kind of picture becomes upright RGB, or a sentence with the file's name."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hashret.data import Dataset, Record, decode_image, readable_images
from hashret.errors import DataError

HEIC = Path(__file__).parent / "golden" / "turned.heic"
RED, GREEN, WHITE = (255, 0, 0), (0, 255, 0), (255, 255, 255)


def corner(image: Image.Image, x: int = 0, y: int = 0) -> tuple[int, ...]:
    value = image.getpixel((x, y))
    assert isinstance(value, tuple)
    return value


def photo(size: tuple[int, int] = (160, 120)) -> Image.Image:
    """Noise on a slope, which no codec stores in a few bytes."""
    rng = np.random.default_rng(0)
    slope = np.linspace(0, 200, size[0])[None, :, None] + rng.integers(0, 55, (size[1], size[0], 3))
    return Image.fromarray(slope.astype(np.uint8))


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("orientation, side", [(1, "left"), (2, "right"), (3, "right"), (6, "top"), (8, "bottom")])
def test_exif_rotation_is_applied(tmp_path: Path, orientation: int, side: str) -> None:
    image = Image.new("RGB", (40, 20), WHITE)
    image.paste(RED, (0, 0, 8, 20))  # red on the left as stored
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.png", exif=exif)
    upright = decode_image(tmp_path / "a.png")
    assert upright.size == ((20, 40) if orientation > 4 else (40, 20))
    width, height = upright.size
    middle = {"left": (1, height // 2), "right": (width - 2, height // 2), "top": (width // 2, 1)}
    assert corner(upright, *middle.get(side, (width // 2, height - 2))) == RED


def test_damaged_exif_costs_nothing(tmp_path: Path) -> None:
    data = encoded(photo(), "JPEG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff\x00\x01\x01\x12")
    assert decode_image(data).size == (160, 120)


def test_grey_bilevel_and_cmyk() -> None:
    assert corner(decode_image(encoded(Image.new("L", (4, 4), 100), "PNG"))) == (100, 100, 100)
    assert corner(decode_image(encoded(Image.new("1", (4, 4), 1), "PNG"))) == WHITE
    cmyk = decode_image(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95))
    assert cmyk.mode == "RGB" and np.abs(np.subtract(corner(cmyk), RED)).max() < 10


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF"])
def test_what_is_transparent_lies_over_white(format: str) -> None:
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    image.putpixel((1, 1), (255, 0, 0, 255))
    image.putpixel((2, 2), (0, 0, 0, 128))
    decoded = decode_image(encoded(image, format, **({"lossless": True} if format == "WEBP" else {})))
    assert corner(decoded) == WHITE and corner(decoded, 1, 1) == RED
    assert abs(corner(decoded, 2, 2)[0] - 127) <= 1


def test_grey_with_alpha_and_transparent_colours() -> None:
    assert corner(decode_image(encoded(Image.new("LA", (4, 4), (0, 0)), "PNG"))) == WHITE
    assert corner(decode_image(encoded(Image.new("RGB", (4, 4), RED), "PNG", transparency=RED))) == WHITE
    assert corner(decode_image(encoded(Image.new("L", (4, 4), 9), "PNG", transparency=9))) == WHITE


def test_palettes_with_and_without_transparency() -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([*RED, *GREEN])
    image.putpixel((1, 1), 1)
    plain = decode_image(encoded(image, "PNG"))
    assert (corner(plain), corner(plain, 1, 1)) == (RED, GREEN)
    holed = decode_image(encoded(image, "PNG", transparency=0))
    assert (corner(holed), corner(holed, 1, 1)) == (WHITE, GREEN)
    graded = decode_image(encoded(image, "PNG", transparency=bytes([255, 0])))
    assert (corner(graded), corner(graded, 1, 1)) == (RED, WHITE)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bit_grey_fills_its_range(format: str) -> None:
    grey = Image.fromarray(np.array([[0, 32896, 65535]], dtype=np.uint16))
    assert np.asarray(decode_image(encoded(grey, format)))[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize(
    "values, expected",
    [
        (np.array([[0.0, 0.5, 1.0]], np.float32), [0, 128, 255]),
        (np.array([[0.0, 127.0, 255.0]], np.float32), [0, 127, 255]),
        (np.array([[-10.0, 0.0, 10.0]], np.float32), [0, 128, 255]),
        (np.array([[0.0, np.nan, 1.0]], np.float32), [0, 0, 255]),
        (np.array([[0, 100_000, 200_000]], np.int32), [0, 128, 255]),
    ],
)
def test_float_and_32_bit_grey(values: np.ndarray, expected: list[int]) -> None:
    decoded = decode_image(encoded(Image.fromarray(values), "TIFF"))
    assert np.asarray(decoded)[0, :, 0].tolist() == expected


def test_of_an_animation_the_first_frame_is_taken() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, GREEN)]
    for format in ("GIF", "WEBP"):
        options: dict[str, Any] = {"lossless": True} if format == "WEBP" else {}
        data = encoded(frames[0], format, save_all=True, append_images=frames[1:], **options)
        assert corner(decode_image(data)) == RED


@pytest.mark.parametrize("source", ["path", "str", "bytes", "image", "array"])
def test_every_kind_of_source(tmp_path: Path, source: str) -> None:
    Image.new("RGB", (6, 4), RED).save(tmp_path / "bild ä.png")
    path = tmp_path / "bild ä.png"
    given: Any = {
        "path": path,
        "str": str(path),
        "bytes": path.read_bytes(),
        "image": Image.open(path),
        "array": np.full((4, 6, 3), RED, np.uint8),
    }[source]
    decoded = decode_image(given)
    assert (decoded.mode, decoded.size, corner(decoded)) == ("RGB", (6, 4), RED)


def test_a_given_picture_is_never_changed(tmp_path: Path) -> None:
    photo((320, 240)).save(tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as lazy:
        decode_image(lazy, size_hint=10)
        assert lazy.size == (320, 240)
    given = Image.new("RGB", (4, 4), RED)
    decode_image(given).putpixel((0, 0), GREEN)
    assert corner(given) == RED


@pytest.mark.parametrize(
    "array",
    [
        np.full((4, 6), 255, np.uint8),
        np.full((4, 6, 1), 65535, np.uint16),
        np.ones((4, 6), bool),
        np.ones((4, 6, 3), np.float32),
        np.zeros((4, 6, 4), np.uint8),  # transparent
        np.full((3, 4, 6), 255, np.uint8).transpose(1, 2, 0),
    ],
)
def test_arrays(array: np.ndarray) -> None:
    decoded = decode_image(array)
    assert (decoded.size, corner(decoded)) == ((6, 4), WHITE)


def test_size_hint_keeps_both_sides_long_enough() -> None:
    data = encoded(photo((1600, 800)), "JPEG")
    assert decode_image(data).size == (1600, 800)
    assert decode_image(data, size_hint=200).size == (400, 200)
    assert decode_image(data, size_hint=201).size == (800, 400)
    assert decode_image(encoded(photo((60, 40)), "PNG"), size_hint=8).size == (60, 40)
    full, small = decode_image(data).resize((100, 50)), decode_image(data, size_hint=100).resize((100, 50))
    assert np.abs(np.asarray(full, int) - np.asarray(small, int)).mean() < 12


def test_a_jpeg_beyond_max_pixels_is_decoded_smaller() -> None:
    data = encoded(photo((800, 400)), "JPEG")
    assert decode_image(data, max_pixels=100_000).size == (400, 200)
    with pytest.raises(DataError, match="800 x 400 pixels, more than the 100"):
        decode_image(data, max_pixels=100)


# --- bad input ----------------------------------------------------------------------------------------------------


def bomb(width: int, height: int) -> bytes:
    """A PNG that claims a size; its pixels are missing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


BAD_PICTURES = [
    (b"", r"bad.png' is empty \(0 bytes\)"),
    (b"hello, I am text", r"bad.png' is not a picture that can be read"),
    (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', r"bad.png' is an SVG drawing"),
    (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n", r"bad.png' is an EPS drawing"),
    (b"\0\0\0\x18ftypheic" + b"\0" * 40, r"bad.png' is damaged, or of a kind that pi-heif"),
    (bomb(100_000, 100_000), r"bad.png' is too large"),
    (bomb(9_400, 9_600), r"bad.png' has 9400 x 9600 pixels, more than the 89,478,485"),
    (bomb(50, 50), r"bad.png' is truncated or damaged"),
    (b"\x89PNG\r\n\x1a\n" + b"\0" * 20, r"bad.png' is (not a picture|damaged)"),
    (b"\xff\xd8\xff\xe0", r"bad.png' is (not a picture|damaged)"),
    (b"GIF89a\x00\x00\x00\x00\x00\x00\x00", r"bad.png'"),
]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("content, message", BAD_PICTURES)
def test_a_bad_picture_is_refused_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        decode_image(path)


def test_a_photo_of_a_phone_is_read_upright():
    image = decode_image(HEIC)
    assert (image.mode, image.size) == ("RGB", (32, 64))  # 64 x 32 before it was turned
    top, bottom = (corner(image, 16, y) for y in (16, 48))
    assert np.allclose([top, bottom], [(220, 30, 30), (30, 30, 220)], atol=8)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_photo_of_a_phone_that_is_cut_off_is_refused(share: float):
    content = HEIC.read_bytes()
    with pytest.raises(DataError, match="is damaged"):
        decode_image(content[: int(share * len(content))])


def test_a_photo_of_a_phone_says_what_reads_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    monkeypatch.setattr(Image, "ID", [name for name in Image.ID if name != "HEIF"])  # where another test had it read
    with pytest.raises(DataError, match=r"turned\.heic' is HEIC, .* pip install 'hashret\[heic\]'$"):
        decode_image(HEIC)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF"])
def test_a_picture_that_speaks_of_svg_is_none(format: str) -> None:
    """Programs that draw one to pixels like to say from what."""
    from PIL.PngImagePlugin import PngInfo

    source = '<svg xmlns="http://www.w3.org/2000/svg"/>'
    info = PngInfo()
    info.add_text("Source", source)
    said: dict[str, Any] = {"pnginfo": info} if format == "PNG" else {"comment": source.encode()}
    content = encoded(Image.new("RGB", (8, 8), "white"), format, **said)
    assert b"<svg" in content[:1024]
    assert decode_image(content).getpixel((4, 4)) == (255, 255, 255)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("size_hint", [None, 16])
def test_a_truncated_picture_is_never_half_grey(format: str, share: float, size_hint: int | None) -> None:
    data = encoded(photo().quantize(64) if format == "GIF" else photo(), format)
    with pytest.raises(DataError, match=r"the picture given as bytes is (truncated|damaged|not a picture)"):
        decode_image(data[: int(len(data) * share)], size_hint=size_hint)


def test_places_that_hold_no_picture(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no picture '.*gone.jpg'"):
        decode_image(tmp_path / "gone.jpg")
    with pytest.raises(DataError, match=r"is a folder"):
        decode_image(tmp_path)
    with pytest.raises(DataError, match=r"cannot be read"):
        decode_image("a\0b")
    with pytest.raises(DataError, match=r"a picture is a path, .* and not int"):
        decode_image(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "array, message",
    [
        (np.zeros((3, 8, 8), np.uint8), r"not \(3, 8, 8\); it looks channels-first"),
        (np.zeros((2, 4, 8, 3), np.uint8), r"not \(2, 4, 8, 3\)"),
        (np.zeros((0, 4), np.uint8), r"not \(0, 4\)"),
        (np.zeros((4, 4), np.int64), r"and not int64"),
        (np.full((4, 4), 255.0), r"values in \[0, 1\]"),
        (np.full((4, 4), np.nan), r"values in \[0, 1\]"),
    ],
)
def test_arrays_that_are_no_pictures(array: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        decode_image(array)


# --- a data set of them -------------------------------------------------------------------------------------------


@pytest.fixture
def mixed(tmp_path: Path) -> Dataset:
    photo().save(tmp_path / "good.jpg")
    Image.new("L", (5, 5)).save(tmp_path / "grey.png")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "good.jpg").read_bytes()[:2000])
    (tmp_path / "zero.png").touch()
    names = ["good.jpg", "cut.jpg", "grey.png", "zero.png"]
    records = [Record(name, ("a",), tmp_path / name) for name in names]
    return Dataset("mixed", (*records, Record("words", ("b",))))


def test_corrupt_pictures_among_good_ones_are_skipped_with_names(
    mixed: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    good, skipped = readable_images(mixed)
    assert good.ids == ("good.jpg", "grey.png")
    assert (skipped.count, skipped.names) == (3, ("cut.jpg", "zero.png", "words"))
    assert "cut.jpg' is truncated" in skipped.reasons[0] and "has no picture" in skipped.reasons[2]
    assert "skipped 3" in caplog.text


def test_strict_refuses_corrupt_pictures(mixed: Dataset) -> None:
    with pytest.raises(DataError, match=r"3 of 5 of the pictures in 'mixed' cannot be used; skipped 3: .*cut.jpg"):
        readable_images(mixed, strict=True)


def test_a_data_set_without_one_readable_picture_is_refused(mixed: Dataset) -> None:
    with pytest.raises(DataError, match=r"none of the pictures in 'mixed' can be used"):
        readable_images(mixed.subset([1, 3]))


def test_nothing_is_skipped_where_all_is_well(mixed: Dataset) -> None:
    good, skipped = readable_images(mixed.subset([0, 2]), strict=True)
    assert (len(good), skipped.count, skipped.summary()) == (2, 0, "")
