"""One ONNX file: onnxruntime opens it, with a batch of any size, and texts of any length.

model.onnx    operator set 18; its metadata hold the receipt of a run, and what goes in
classes.json  of a classifier, the names of its classes
tokenizer/    of texts, as this library writes it; tokenizer.json is the `tokenizers` library's
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from torch import Tensor

from ssl_zoo.export._base import Door, ExportError, Reader, Source, carried, spelt
from ssl_zoo.export.graph import inputs, outputs, wrapped
from ssl_zoo.export.torch import example_shape, ids_lines, naming, plain_reading, traced, write_beside

FILE, OPSET = "model.onnx", 18


class OnnxDoor(Door):
    name = "onnx"
    library = "onnx"
    tolerance = 1e-4  # its kernels sum in another order

    def write(self, source: Source, folder: Path) -> None:
        module, example, dynamic = wrapped(source)
        program = traced(module, example, dynamic)
        with quiet():
            try:
                made = torch.onnx.export(
                    program,
                    dynamo=True,
                    opset_version=OPSET,
                    input_names=[*example],
                    output_names=[*outputs(source)],
                    verbose=False,
                )
                assert made is not None
                told = {**carried(source), "reads": " ".join(plain_reading(source))}
                made.model.metadata_props.update(told)
                made.save(folder / FILE)  # weights of more than 2 GB lie beside it
            except Exception as error:  # an operation that ONNX does not have, of whatever part
                first = (str(error).strip().splitlines() or [repr(error)])[0]
                raise ExportError(f"ONNX has no words for this network: {first[:300]}") from error
        write_beside(source, folder)

    def open(self, source: Source, folder: Path) -> Reader:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = torch.get_num_threads()
        model = onnxruntime.InferenceSession(str(folder / FILE), options, providers=["CPUExecutionProvider"])

        def read(rows: Any) -> Tensor:
            given = {name: value.numpy() for name, value in inputs(source, rows).items()}
            return torch.from_numpy(model.run([outputs(source)[0]], given)[0])

        return read

    def lines(self, source: Source, folder: Path) -> str:
        start = (
            f"import numpy as np, onnxruntime\nmodel = onnxruntime.InferenceSession({spelt(folder / FILE)})\n"
        )
        given, end = ", ".join(outputs(source)), naming(source, folder)
        if source.backbone.modality == "image":
            shape = ", ".join(map(str, example_shape(source)))
            return (
                f"{start}x = np.random.rand({shape}).astype(np.float32)  # images in [0, 1]\n"
                f'{given} = model.run(None, {{"image": x}}){end}'
            )
        return f"{start}{ids_lines(source, folder, 'np.array')}\n{given} = model.run(None, batch){end}"

    def notes(self, source: Source) -> Sequence[str]:
        return [
            f"{FILE} is of operator set {OPSET} and runs in float32. When it was written, its "
            f"{outputs(source)[0]} of a few rows differed from PyTorch's by 1e-4 at most, in units of the "
            "largest or of 1.",
            *plain_reading(source),
        ]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Within, the exporter of torch tells nothing."""
    loud = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [one.level for one in loud]
    for one in loud:
        one.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for one, level in zip(loud, levels, strict=True):
            one.setLevel(level)
