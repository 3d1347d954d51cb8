"""Images that are decoded on the device of the batch: the same pixels as `decode_fast`, wherever it is."""

import io
import pickle
from functools import partial

import numpy as np
import pytest
import tiny
import torch
from lightning.fabric.utilities.apply_func import move_data_to_device
from PIL import Image, ImageOps
from shard_files import EACH, SHARDS, opened, pictures, write_mds

from ssl_zoo.data import image_undecoded
from ssl_zoo.data.image_decoding import decode_fast, resampled
from ssl_zoo.data.image_streams import ImageStream
from ssl_zoo.data.image_undecoded import JPEG, Encoded, Undecoded, square, upright
from ssl_zoo.data.rows import DataError
from ssl_zoo.objectives._base import Batch
from ssl_zoo.transfer.features import move

SIZE = 24


def encoded(mode="RGB", size=(40, 30), form="JPEG", **options) -> bytes:
    values = np.random.default_rng(len(mode) + sum(size)).integers(0, 256, (6, 5, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(values).resize(size).convert(mode).save(file, form, **options)
    return file.getvalue()


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(size=(50, 31), exif=exif.tobytes())


KINDS = {
    "rgb": encoded(),
    "grey": encoded("L"),
    "cmyk": encoded("CMYK"),
    "of that size": encoded(size=(SIZE, SIZE)),
    "progressive": encoded(progressive=True),
    "on its side": turned(6),
    "transparent": encoded("RGBA", form="PNG"),
    "an open one": Image.open(io.BytesIO(encoded(form="PNG"))),
}


def images(*data) -> Undecoded:
    return Undecoded([Encoded(one, f"shard, image {i}") for i, one in enumerate(data)], SIZE, 10_000)


def test_every_kind_has_the_pixels_of_the_other_way():
    found = images(*KINDS.values()).to("cpu")
    assert (found.shape, found.dtype) == ((len(KINDS), 3, SIZE, SIZE), torch.uint8)
    for name, data, x in zip(KINDS, KINDS.values(), found, strict=True):
        assert np.array_equal(x.numpy(), decode_fast(data, SIZE)), name


@pytest.mark.parametrize("orientation", range(1, 10))
def test_turned_as_pillow_turns(orientation):
    image = Image.open(io.BytesIO(turned(orientation)))
    lying = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    straight = torch.from_numpy(np.array(ImageOps.exif_transpose(image))).permute(2, 0, 1)
    assert torch.equal(upright(lying, orientation), straight)


def test_a_filter_for_floats_rounds_as_that_for_bytes():
    x = torch.from_numpy(decode_fast(KINDS["rgb"], 40))[None]
    floats = resampled(x.float(), SIZE).round_().clamp_(0, 255)[0].byte()
    assert (floats.int() - square(x[0], SIZE).int()).abs().max() <= 1


def test_what_is_damaged_is_named_among_others():
    short = KINDS["rgb"][: len(KINDS["rgb"]) // 2]
    odd = KINDS["rgb"].replace(b"\xff\xda", b"\xff\x00")  # no scan begins
    for data, said in ((short, "runcated"), (odd, ""), (b"no image", "not an image of a known format")):
        with pytest.raises(
            DataError, match=rf"shard, image 1: .*{said}.* \(repair the shard, or leave it out"
        ):
            images(KINDS["rgb"], data, KINDS["grey"]).to("cpu")
    with pytest.raises(DataError, match="image 0: its 20000 pixels are more than max_pixels=10000"):
        images(encoded(size=(200, 100))).to("cpu")


def test_a_decoder_that_knows_no_such_file_leaves_it_to_pillow(monkeypatch):
    def refuses(*args, **options):
        raise RuntimeError("unsupported")

    monkeypatch.setattr("torchvision.io.decode_jpeg", refuses)
    found = images(KINDS["rgb"], KINDS["on its side"]).to("cpu")
    assert np.array_equal(found[0].numpy(), decode_fast(KINDS["rgb"], SIZE))
    assert np.array_equal(found[1].numpy(), decode_fast(KINDS["on its side"], SIZE))


def test_few_pixels_are_decoded_at_once(monkeypatch):
    monkeypatch.setattr(image_undecoded, "AT_ONCE", 3000)
    taken = [JPEG(at, b"", "", 1, pixels) for at, pixels in enumerate((1000, 2000, 1, 9000, 5))]
    assert [[one.at for one in some] for some in image_undecoded.grouped(taken)] == [[0, 1], [2], [3], [4]]
    assert images(*[KINDS["rgb"]] * 5).to("cpu").shape == (5, 3, SIZE, SIZE)


def test_batches_carry_them_to_the_device():
    late = images(KINDS["rgb"], KINDS["grey"])
    assert late.pin_memory() is late
    expected = late.to("cpu")
    batch = Batch(pickle.loads(pickle.dumps(late)))
    for moved in (move_data_to_device((3, batch), torch.device("cpu"))[1], move(batch, torch.device("cpu"))):
        assert torch.equal(moved.x, expected)


def test_a_stream_decodes_late_what_is_pretrained_on(tmp_path, monkeypatch):
    write_mds(tmp_path / "mds", pictures())
    options = {"image_size": 8, "validation_fraction": 0, "cache": str(tmp_path / "cache")}
    with pytest.raises(DataError, match=r"no CUDA device is here: take data\.decode=cpu"):
        ImageStream("s", str(tmp_path / "mds"), decode="cuda", **options)
    with pytest.raises(DataError, match="decode is cpu or cuda, not 'gpu'"):
        ImageStream("s", str(tmp_path / "mds"), decode="gpu", **options)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    data = ImageStream("s", str(tmp_path / "mds"), decode="cuda", **options)
    late, now = data.rows("pretrain"), data.rows("train")
    assert late.fingerprint != now.fingerprint
    index = np.random.default_rng(0).permutation(EACH * SHARDS)[:9]
    assert isinstance(late.read(index).x, Undecoded)
    expected = (
        ImageStream("s", str(tmp_path / "mds"), reducing_gap=None, **options).rows("train").read(index).x
    )
    assert torch.equal(late.read(index).x.to("cpu"), expected)
    assert isinstance(now.read(index).x, torch.Tensor)


def rows(address, folder, late, seed=0):
    found = opened(address, folder)
    found.late, found.gap = late, None
    return found


def trained(address, kept, folder, late, **options):
    make = partial(rows, address, kept, late)
    tiny.train(folder, build=(lambda: tiny.small_simclr(tiny.resnet()), make), steps=3, batch=8, **options)


def test_a_run_is_the_same_with_and_without_workers(tmp_path):
    write_mds(tmp_path / "mds", pictures())
    hashes = []
    for name, late, workers in (("now", False, 0), ("late", True, 0), ("workers", True, 2)):
        options = {"workers": workers}
        place = (str(tmp_path / "mds"), tmp_path / "kept", tmp_path / name, late)
        code, log = tiny.forked(tmp_path, trained, *place, **options)
        assert code == 0, log
        hashes.append((tmp_path / name / "sha256").read_text())
    assert len({*hashes}) == 1
