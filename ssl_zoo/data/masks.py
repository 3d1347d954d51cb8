"""Images with masks: PNG files whose grey values or palette numbers are the classes of pixels.

255 is a pixel of which nobody knows the class. A folder has images/ and masks/, in which a mask has the name
of its image but for the suffix; or a table names both. An image is read whole, at any shape, into a square:
nothing is cropped, so that masks can be written at the size of the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ssl_zoo.data.image_decoding import as_rgb, open_image, suffixes
from ssl_zoo.data.items import Item, guarded
from ssl_zoo.data.rows import DataError
from ssl_zoo.data.text_tables import field, table

UNKNOWN = 255
IMAGES, MASKS = "images", "masks"
MODES = ("P", "L", "1")
ORIENTATION = 0x0112  # of EXIF; from 5 on the image lies on its side


def has_masks(path: Path) -> bool:
    """Whether a folder is laid out so."""
    return (path / IMAGES).is_dir() and (path / MASKS).is_dir()


def read_folder(path: Path) -> list[Item]:
    """The images of a folder with images/ and masks/, or of any folder, then without masks.

    `input` and `target` are paths.

    Raises:
        DataError: there are none, two have one stem, one lacks its mask or a mask its image, or sizes differ.
    """
    if not has_masks(path):
        return [Item(str(file), None, file) for file in image_files(path)]
    images, masks = (by_stem(path / name) for name in (IMAGES, MASKS))
    for some, others, what in ((images, masks, "mask"), (masks, images, "image")):
        if lacking := sorted(some.keys() - others.keys()):
            more = f", nor have {len(lacking) - 1} more" if len(lacking) > 1 else ""
            raise DataError(
                f"{some[lacking[0]]} has no {what}{more}: a mask has the name of its image, as in "
                f"{IMAGES}/a.jpg and {MASKS}/a.png"
            )
    return [checked(Item(str(file), None, file, masks[stem])) for stem, file in images.items()]


def read_mask_table(path: Path, image: int | str, mask: int | str, delimiter: str = ",") -> list[Item]:
    """The rows of a table that names images and masks, from its own folder on.

    Raises:
        DataError: a cell that names no file, or sizes that differ.
    """
    found = []
    for number, row in enumerate(table(path, delimiter=delimiter, header=isinstance(image, str))):
        places = [path.parent / str(field(row, column, path)) for column in (image, mask)]
        for place in places:
            if not place.is_file():
                raise DataError(f"{path}, row {number}: {place} is no file")
        found.append(checked(Item(str(places[0]), None, *places)))
    if not found:
        raise DataError(f"{path} names no image")
    return found


def image_files(path: Path) -> list[Path]:
    """The image at a path, or all below a folder, sorted. Raises DataError where there is none."""
    found = (
        [path]
        if path.is_file()
        else sorted(
            one
            for one in path.rglob("*")
            if one.suffix.lower() in suffixes() and not any(part.startswith(".") for part in one.parts[-2:])
        )
    )
    if not found:
        raise DataError(f"{path} holds no images")
    return found


def by_stem(folder: Path) -> dict[str, Path]:
    """The images below a folder by their names without suffix. Raises DataError where two have the same."""
    found: dict[str, Path] = {}
    for file in image_files(folder):
        stem = file.relative_to(folder).with_suffix("").as_posix()
        if stem in found:
            raise DataError(f"{found[stem]} and {file} have the same name but for the suffix: rename one")
        found[stem] = file
    return found


def checked(item: Item) -> Item:
    """The same pair. Raises DataError where image and mask are not of one size, or the mask holds colours."""
    size, mode = size_of(item.input), ""
    try:
        with Image.open(item.target) as mask:
            other, mode = mask.size, mask.mode
    except OSError as error:
        raise DataError(f"the mask {item.target} cannot be read: {error}") from error
    if mode not in MODES:
        raise DataError(
            f"the mask {item.target} is of mode {mode}: the class of a pixel is a grey value or the number "
            f"of a colour in a palette, 0 to 254, and {UNKNOWN} where nobody knows it (modes "
            f"{', '.join(MODES)})"
        )
    if size != other:
        raise DataError(
            f"{item.input} has {size[0]} x {size[1]} pixels, and its mask {item.target} "
            f"has {other[0]} x {other[1]}"
        )
    return item


def size_of(file: Path) -> tuple[int, int]:
    """Width and height of an upright image, as its header says."""

    def read() -> tuple[int, int]:
        with Image.open(file) as image:
            width, height = image.size
            return (height, width) if image.getexif().get(ORIENTATION, 1) >= 5 else (width, height)

    return guarded(str(file), read)


def read_image(file: Path, side: int) -> np.ndarray:
    """A whole image as uint8 (3, side, side), whatever its shape. Raises DataError where it is damaged."""

    def read() -> np.ndarray:
        with open_image(file) as image:
            image.load()
            rgb = as_rgb(ImageOps.exif_transpose(image))
        if rgb.size != (side, side):
            rgb = rgb.resize((side, side), Image.Resampling.BICUBIC)
        return np.asarray(rgb).transpose(2, 0, 1)

    return guarded(str(file), read)


def read_mask(file: Path, side: int | None = None) -> np.ndarray:
    """The class number of each pixel, uint8 (H, W).

    side: None = at its own size; else stretched to (side, side), each pixel as the nearest one.
    """

    def read() -> np.ndarray:
        with Image.open(file) as mask:
            numbers = mask.convert("L") if mask.mode == "1" else mask
            if side is not None:
                numbers = numbers.resize((side, side), Image.Resampling.NEAREST)
            found = np.array(numbers)
        return found // 255 if mask.mode == "1" else found

    return guarded(str(file), read)


def palette_of(file: Path) -> list[int]:
    """The colours of a mask, three numbers each; [] of one of grey values."""
    with Image.open(file) as mask:
        return list(mask.getpalette() or []) if mask.mode == "P" else []


def numbers_in(file: Path) -> set[int]:
    """The class numbers in a mask."""
    return set(np.unique(read_mask(file)).tolist()) - {UNKNOWN}


def write_mask(file: Path, numbers: np.ndarray, palette: Sequence[int]) -> None:
    """Write class numbers (H, W) as a PNG, with a palette where there is one."""
    image = Image.fromarray(numbers.astype(np.uint8))
    if palette:
        image.putpalette([*palette, *[0] * (768 - len(palette))])  # else Pillow keeps fewer bits
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file, "PNG")
