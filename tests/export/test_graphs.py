"""Programs of ONNX and torch.export: any batch, any length of text, padding on either side."""

import functools
import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from export_sources import CONTEXT, RECEIPT, cnn, hf, text, vit
from torch import nn
from zoo_backbones import backbone

import ssl_zoo
from ssl_zoo.export import doors
from ssl_zoo.export._base import ExportError, Source

IMAGES = {
    "vit": vit,
    "small stem": lambda: cnn(stem="half", stem_type="deep", stem_width=4),
    "patches": lambda: Source(backbone("patches").eval(), RECEIPT),
    "own": lambda: Source(
        ssl_zoo.backbone(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), image_size=8).eval(), RECEIPT
    ),
}
TEXTS = {"causal": lambda: text("causal"), "both": lambda: text(mlp="relu2"), "bert": lambda: hf("bert")}
TRIED = [("onnx", name) for name in ("vit", "small stem", "causal", "bert")]
TRIED += [("torch", name) for name in ("patches", "own", "both")]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """What each door wrote of each source, once."""

    @functools.cache
    def write(to, name):
        source = (IMAGES | TEXTS)[name]()
        return source, doors.export(source, to, tmp_path_factory.mktemp(to) / "out").folder

    return write


def program(to, folder):
    """A function of named arrays, by PyTorch or onnxruntime alone."""
    if to == "torch":
        return torch.export.load(folder / "model.pt2").module()
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    return lambda **given: [
        torch.from_numpy(one) for one in session.run(None, {k: v.numpy() for k, v in given.items()})
    ]


@pytest.mark.parametrize(
    ("to", "name"),
    [
        pytest.param(*one, marks=[] if one in (("onnx", "vit"), ("torch", "both")) else [pytest.mark.slow])
        for one in TRIED
    ],
)
@pytest.mark.filterwarnings("ignore:No complete tensor found")  # of torch's loader
def test_a_program_reads_the_same(to, name, written):
    source, folder = written(to, name)
    run = program(to, folder)
    for count, length in ((1, 5), (3, CONTEXT), (2, 1)):
        if name in IMAGES:
            given = {"image": torch.rand(count, 3, *source.pictures().image_size)}
            with torch.no_grad():
                mine = source.backbone(given["image"])
        else:
            ids = torch.randint(3, 259, (count, length))
            seen = torch.ones_like(ids)
            seen[-1, length - length // 3 :] = 0
            given = {"input_ids": ids, "attention_mask": seen}
            with torch.no_grad():
                mine = source.backbone(ids, seen - 1)
        with torch.no_grad():
            pooled, tokens = run(**given)
        assert torch.allclose(pooled, mine.pooled, atol=1e-5)
        if name in IMAGES:
            assert torch.allclose(tokens, mine.tokens, atol=1e-5)
            continue
        assert torch.allclose(tokens[seen > 0], mine.tokens[seen > 0], atol=1e-5)
        with torch.no_grad():  # padding on the left
            moved = run(input_ids=ids.flip(1).roll(0), attention_mask=seen.flip(1))[0]
            expected = torch.stack(
                [source.backbone(i[s > 0][None].flip(1)).pooled[0] for i, s in zip(ids, seen, strict=True)]
            )
        assert torch.allclose(moved, expected, atol=1e-5)


def test_an_onnx_file_says_where_it_comes_from(written):
    _, folder = written("onnx", "vit")
    model = onnx.load(folder / "model.onnx")
    onnx.checker.check_model(model)
    told = {one.key: one.value for one in model.metadata_props}
    assert json.loads(told["ssl_zoo"]) == RECEIPT
    assert "(B, 3, 32, 32) as float32 in [0, 1]" in told["reads"]
    assert [one.name for one in model.graph.input] == ["image"]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param


@pytest.mark.filterwarnings("ignore:No complete tensor found")
def test_the_lines_of_a_text_run_as_they_are(written):
    source, folder = written("torch", "both")
    names: dict = {}
    exec(doors.door("torch").lines(source, folder), names)
    ids = np.concatenate([[1], source.words()[0].encode(["a text"])[0]])
    with torch.no_grad():
        mine = source.backbone(torch.from_numpy(ids)[None]).pooled
    assert torch.allclose(names["pooled"], mine, atol=1e-5)
    opened = ssl_zoo.load(folder)  # this library opens it as well
    assert all(torch.equal(one, opened.state_dict()[k]) for k, one in source.backbone.state_dict().items())


class Odd(nn.Module):
    """A network whose way depends on what it sees."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.conv(x) if x.mean() > 0 else self.conv(-x)


def test_a_network_that_cannot_be_traced_is_refused(tmp_path):
    source = Source(ssl_zoo.backbone(Odd(), image_size=8).eval(), RECEIPT)
    with pytest.raises(ExportError, match=r"torch\.export cannot trace this network"):
        doors.export(source, "torch", tmp_path / "out")
