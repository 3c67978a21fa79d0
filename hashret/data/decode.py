"""Pictures from whatever they come in, as upright 8-bit RGB, or a sentence that says why not.

Knows Pillow and numpy; resizing and normalising to a model's taste are the encoders' work.
"""

from __future__ import annotations

import io
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np

from hashret._lazy import available, progress, require
from hashret.data.records import Dataset, Record, Skipped
from hashret.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

ImageSource: TypeAlias = Union[Path, str, bytes, "Image", np.ndarray]

# Pillow's own threshold for "could be a decompression bomb": 268 MB as RGB.
MAX_PIXELS = 89_478_485
# As many pixels of 16-bit RGBA, uncompressed, 716 MB: a larger file is no picture that is accepted.
MAX_PICTURE_BYTES = 8 * MAX_PIXELS
LONGEST = 16  # times the shorter side: of what is longer an encoder sees the middle alone
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # brands of the file format

logger = logging.getLogger(__name__)


def decode_image(source: ImageSource, *, max_pixels: int = MAX_PIXELS, size_hint: int | None = None) -> Image:
    """The picture as upright RGB.

    EXIF rotation is applied; whatever is transparent lies over white; palettes, grey (1, 8, 16 or 32 bit) and CMYK
    become RGB; of an animation the first frame is taken.

    Args:
        source: a path, the bytes of an encoded picture, a PIL image, or an array (H, W), (H, W, 1), (H, W, 3) or
            (H, W, 4) of dtype uint8, uint16, bool, or float in [0, 1].
        max_pixels: larger pictures are refused before they are unpacked. A JPEG is decoded at 1/2, 1/4 or 1/8 of
            its size instead, where that is small enough. Beyond twice ``PIL.Image.MAX_IMAGE_PIXELS`` Pillow
            refuses in any case.
        size_hint: the side in pixels that the caller needs. A JPEG may then be decoded at 1/2, 1/4 or 1/8 of its
            size, several times faster, with both sides still at least this long.

    Returns:
        A PIL image of mode RGB that holds no file open.

    Raises:
        DataError: missing, empty, no picture, truncated, too large, or an array of another kind; names the file.
    """
    require("PIL", extra="report")  # the lightest of the extras that bring Pillow
    from PIL import Image

    if isinstance(source, np.ndarray):
        return _over_white(_from_array(source))
    if isinstance(source, Image.Image):
        return _finish(source, "the PIL image", max_pixels)
    if isinstance(source, bytes | bytearray | memoryview):
        return _open(io.BytesIO(source), "the picture given as bytes", max_pixels, size_hint)
    if not isinstance(source, str | os.PathLike):
        raise DataError(f"a picture is a path, bytes, a PIL image or a numpy array, and not {type(source).__name__}")
    path = Path(source)
    try:
        with path.open("rb") as file:
            return _open(file, str(path), max_pixels, size_hint)
    except FileNotFoundError as error:
        raise DataError(f"there is no picture {str(path)!r}; check the path") from error
    except IsADirectoryError as error:
        raise DataError(f"{str(path)!r} is a folder; give the path of a picture") from error
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"the picture {str(path)!r} cannot be read: {error}") from error


def middle_of(picture: Image) -> Image:
    """The middle of a picture that is more than ``LONGEST`` times as long as wide; any other as it is.

    For what resizes the shorter side and then cuts out a square: of 1 x 1,024 pixels it would make 224 x 229,376 first,
    which is 154 MB.
    """
    width, height = picture.size
    long, short = max(width, height), min(width, height)
    kept = LONGEST * short
    if long <= kept:
        return picture
    kept += (long - kept) % 2  # as many pixels go at both ends, so that the middle stays where it is
    before = (long - kept) // 2
    box = (before, 0, before + kept, height) if width > height else (0, before, width, before + kept)
    return picture.crop(box)


def readable_images(
    dataset: Dataset, *, strict: bool = False, max_pixels: int = MAX_PIXELS, threads: int | None = None
) -> tuple[Dataset, Skipped]:
    """The records whose picture decodes, and the others with the reason.

    Args:
        dataset: every picture of it is decoded once (JPEGs at 1/8 of their size).
        strict: refuse the data set instead of skipping.
        max_pixels: as for ``decode_image``.
        threads: how many pictures are decoded at once; all cores by default.

    Raises:
        DataError: with ``strict``, a picture does not decode; without, none does.
    """

    def problem(record: Record) -> str | None:
        if record.image is None:
            return f"record {record.id!r} has no picture"
        try:
            decode_image(record.image, max_pixels=max_pixels, size_hint=1)
        except DataError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        checked = pool.map(problem, dataset.records)
        problems = list(progress(checked, label="Checking pictures", total=len(dataset), unit="picture"))
    rows = [row for row, reason in enumerate(problems) if reason is None]
    skipped = Skipped(
        tuple(record.id for record, reason in zip(dataset.records, problems) if reason is not None),
        tuple(reason for reason in problems if reason is not None),
    )
    if skipped.count and (strict or not rows):
        which = "none" if not rows else f"{skipped.count} of {len(dataset)}"
        verb = "can be used" if not rows else "cannot be used"
        raise DataError(f"{which} of the pictures in {dataset.name!r} {verb}; {skipped.summary()}")
    if skipped.count:
        logger.warning("%s: %s", dataset.name, skipped.summary())
    return dataset.subset(rows), skipped


def _open(file: Any, name: str, max_pixels: int, size_hint: int | None) -> Image:
    from PIL import Image, UnidentifiedImageError

    head = file.read(1024)
    if not head:
        raise DataError(f"{_quoted(name)} is empty (0 bytes)")
    file.seek(0)
    heic = head[4:8] == b"ftyp" and head[8:12] in _HEIC
    if heic and available("pi_heif"):
        require("pi_heif", extra="heic").register_heif_opener()
    try:
        image = Image.open(file)
    except UnidentifiedImageError as error:
        if b"<svg" in head.lower():  # a picture may say so too, in a comment
            raise DataError(f"{_quoted(name)} is an SVG drawing, which has no pixels; draw it to PNG first") from error
        if heic:
            why = "damaged, or of a kind that pi-heif cannot read"
            why = why if available("pi_heif") else "HEIC, which needs another package: pip install 'hashret[heic]'"
            raise DataError(f"{_quoted(name)} is {why}") from error
        raise DataError(f"{_quoted(name)} is not a picture that can be read (JPEG, PNG, WebP, GIF, TIFF, …)") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{_quoted(name)} is too large: {error}") from error
    except Exception as error:  # a plugin at a damaged header may raise anything
        raise DataError(f"{_quoted(name)} is damaged: {error}") from error
    with image:
        if image.format in ("EPS", "WMF"):  # Pillow would start another program to draw it
            raise DataError(f"{_quoted(name)} is an {image.format} drawing, which has no pixels; draw it to PNG first")
        if size_hint is not None or image.size[0] * image.size[1] > max_pixels:
            _reduce(image, max_pixels, size_hint)
        return _finish(image, name, max_pixels)


def _finish(image: Image, name: str, max_pixels: int) -> Image:
    """Unpack, turn upright, bring to RGB; ``image`` itself is left as it is."""
    from PIL import ExifTags, ImageOps

    width, height = image.size
    if width == 0 or height == 0:
        raise DataError(f"{_quoted(name)} has no pixels ({width} x {height})")
    if image.size[0] * image.size[1] > max_pixels:
        raise DataError(
            f"{_quoted(name)} has {width} x {height} pixels, more than the {max_pixels:,} that are accepted; "
            f"make it smaller, or raise max_pixels"
        )
    try:
        image.load()
    except Exception as error:  # a codec at damaged data may raise anything
        raise DataError(f"{_quoted(name)} is truncated or damaged: {error}") from error
    try:
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            image = ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF says nothing about the pixels
        logger.debug("%s: EXIF data cannot be read; the picture is taken as it lies", name)
    try:
        return _over_white(image)
    except (ValueError, OSError) as error:
        raise DataError(f"{_quoted(name)} has the colour mode {image.mode}, which does not turn to RGB") from error


def _reduce(image: Any, max_pixels: int, size_hint: int | None) -> None:
    """Have a JPEG decoded smaller; other formats know no such thing."""
    if image.format not in ("JPEG", "MPO"):
        return
    width, height = image.size
    if size_hint is not None:
        image.draft(None, (min(size_hint, width), min(size_hint, height)))
    elif width * height > max_pixels:
        for scale in (2, 4, 8):
            if (width // scale) * (height // scale) <= max_pixels:
                image.draft(None, (max(1, width // scale), max(1, height // scale)))
                return


def _over_white(image: Image) -> Image:
    """Any mode to RGB; what is transparent lies over white."""
    from PIL import Image

    if image.mode == "RGB" and "transparency" not in image.info:
        return image.copy()
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_eight_bits(np.asarray(image), image.mode)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _eight_bits(grey: np.ndarray, mode: str) -> np.ndarray:
    """(H, W) of 16-bit, 32-bit or float grey to uint8.

    A 16-bit file fills its range. The range of the others is not said anywhere, so it is taken from the values: up to 1
    (float), 255 or 65,535, and stretched from least to largest beyond that.
    """
    values = np.nan_to_num(grey.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    if mode.startswith("I;16"):
        low, high = 0.0, 65535.0
    elif low >= 0.0:
        tops = (1.0, 255.0, 65535.0) if mode == "F" else (255.0, 65535.0)
        low, high = 0.0, next((top for top in tops if high <= top), high)
    return np.rint((values - low) * (255.0 / max(high - low, 1e-12))).clip(0, 255).astype(np.uint8)


def _from_array(array: np.ndarray) -> Image:
    from PIL import Image

    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or 0 in array.shape:
        hint = "; it looks channels-first: transpose it with array.transpose(1, 2, 0)" if _channels_first(array) else ""
        raise DataError(
            f"a picture as an array has the shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), "
            f"and not {array.shape}{hint}"
        )
    if array.dtype == np.uint16:
        array = np.rint(array / 257.0).astype(np.uint8)
    elif array.dtype == bool:
        array = array.astype(np.uint8) * 255
    elif np.issubdtype(array.dtype, np.floating):
        if not (np.isfinite(array).all() and array.min() >= 0.0 and array.max() <= 1.0):
            raise DataError(
                "a picture as an array of floats has values in [0, 1], and this one does not; "
                "scale it, or give uint8 in 0…255"
            )
        array = np.rint(array * 255.0).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise DataError(f"a picture as an array is uint8, uint16, bool or float in [0, 1], and not {array.dtype}")
    return Image.fromarray(np.ascontiguousarray(array))


def _channels_first(array: np.ndarray) -> bool:
    return array.ndim == 3 and array.shape[0] in (1, 3, 4)


def _quoted(name: str) -> str:
    return name if name.startswith("the ") else repr(name)
