"""Images with masks: which belong together, what is refused by name, and that a mask comes back as it was."""

import numpy as np
import pytest
from PIL import Image

from ssl_zoo import DataError
from ssl_zoo.data import masks

PALETTE = [0, 0, 0, 200, 30, 30, 30, 200, 30]


def image(file, size=(6, 4), mode="RGB", **options):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, 1).save(file, **options)
    return file


@pytest.fixture
def pair(tmp_path):
    image(tmp_path / "images" / "deep" / "a.jpg")
    image(tmp_path / "masks" / "deep" / "a.png", mode="L")
    return tmp_path


def test_equal_names_belong_together(pair):
    (one,) = masks.read_folder(pair)
    assert (one.input, one.target) == (pair / "images/deep/a.jpg", pair / "masks/deep/a.png")
    assert masks.has_masks(pair)
    assert [one.target for one in masks.read_folder(pair / "images")] == [None]


def test_what_lacks_its_other_half_is_named(pair):
    image(pair / "images" / "b.png")
    with pytest.raises(DataError, match=r"images/b.png has no mask: a mask has the name of its image"):
        masks.read_folder(pair)
    (pair / "images" / "b.png").unlink()
    image(pair / "masks" / "c.png", mode="L")
    with pytest.raises(DataError, match=r"masks/c.png has no image"):
        masks.read_folder(pair)
    image(pair / "images" / "c.png")
    image(pair / "images" / "c.jpg")
    with pytest.raises(DataError, match="have the same name but for the suffix"):
        masks.read_folder(pair)


def test_sizes_that_differ_are_named_and_a_turned_photo_is_upright(pair):
    image(pair / "masks" / "deep" / "a.png", (4, 6), mode="L")
    with pytest.raises(DataError, match=r"a.jpg has 6 x 4 pixels, and its mask .*a.png has 4 x 6"):
        masks.read_folder(pair)
    turned = Image.Exif()
    turned[masks.ORIENTATION] = 6
    image(pair / "images" / "deep" / "a.jpg", exif=turned)
    assert masks.size_of(masks.read_folder(pair)[0].input) == (4, 6)


def test_a_mask_of_colours_is_refused(pair):
    image(pair / "masks" / "deep" / "a.png", mode="RGB")
    with pytest.raises(DataError, match="is of mode RGB: the class of a pixel is a grey value or the number"):
        masks.read_folder(pair)


def test_numbers_come_back_as_they_were(tmp_path):
    numbers = np.array([[0, 1, 2], [2, 255, 0]], np.uint8)
    for palette in ([], PALETTE):
        file = tmp_path / "mask.png"
        masks.write_mask(file, numbers, palette)
        assert (masks.read_mask(file) == numbers).all()
        assert masks.palette_of(file)[:9] == palette
        assert masks.numbers_in(file) == {0, 1, 2}
    Image.fromarray(numbers > 0).save(tmp_path / "two.png")
    assert masks.read_mask(tmp_path / "two.png").tolist() == [[0, 1, 1], [1, 1, 0]]
    assert masks.read_mask(file, 6).shape == (6, 6)
    assert set(np.unique(masks.read_mask(file, 6))) == {0, 1, 2, 255}  # no number between two others


def test_an_image_is_read_whole(tmp_path):
    pixels = np.zeros((4, 8, 3), np.uint8)
    pixels[:, -1] = 255  # a middle square would lose it
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = masks.read_image(tmp_path / "a.png", 8)
    assert found.shape == (3, 8, 8)
    assert found[:, :, -1].min() > 200


def test_a_table_names_both(pair):
    (pair / "t.csv").write_text("photo,mask\nimages/deep/a.jpg,masks/deep/a.png\n")
    assert [one.target for one in masks.read_mask_table(pair / "t.csv", "photo", "mask")] == [
        pair / "masks/deep/a.png"
    ]
    (pair / "t.csv").write_text("photo,mask\nimages/deep/a.jpg,masks/none.png\n")
    with pytest.raises(DataError, match=r"t.csv, row 0: .*none.png is no file"):
        masks.read_mask_table(pair / "t.csv", "photo", "mask")
    (pair / "masks" / "deep" / "a.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"the mask .*a.png cannot be read"):
        masks.read_folder(pair)
