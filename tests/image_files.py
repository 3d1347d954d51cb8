"""Small image files, folders and shards."""

import io
import tarfile
from pathlib import Path

from PIL import Image

from ssl_zoo.data.images import ImageData


def encoded(image: Image.Image, form: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def solid(colour, size=4) -> bytes:
    return encoded(Image.new("RGB", (size, size), colour))


def folder(root: Path, classes: dict[str, int], size: int = 4) -> Path:
    """Class folders of images that all differ: red counts images, green is the class."""
    n = 0
    for label, (name, count) in enumerate(classes.items()):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            (root / name / f"{i:03d}.png").write_bytes(solid((n, label, 7), size))
            n += 1
    return root


def data(tmp_path: Path, train, **options) -> ImageData:
    options = {"image_size": 4, "validation_fraction": 0.0, "cache": str(tmp_path / "cache")} | options
    return ImageData("tiny", str(train), **options)


def shard(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path
