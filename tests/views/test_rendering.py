"""Views without Numba: torch's operations in the place of the compiled loops."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ssl_zoo.views import kernels, recipes, rendering


@pytest.mark.parametrize(("channels", "threads"), [(1, 1), (3, 3)])
def test_operations_make_the_views_of_the_loops(monkeypatch, channels, threads):
    torch.manual_seed(0)
    x = torch.randint(0, 256, (7, channels, 20, 24), dtype=torch.uint8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    for view in (*recipes.byol(16).each, recipes.crop(16)):
        for kernel in (1, 3):
            draw = view._draw(x, kernel)
            loops = kernels.render(x, (16, 16), draw, kernel)
            with monkeypatch.context() as patch:
                patch.setattr(kernels, "render_some", rendering.compose_some)
                composed = kernels.render(x, (16, 16), draw, kernel)
            assert (loops - composed).abs().max() < 2e-5
            assert loops.std() > 0.05


def test_without_numba_views_are_made_and_that_is_said():
    code = (
        "import sys; sys.modules['numba'] = None\n"
        "from ssl_zoo.views.kernels import warm_up\nwarm_up()\n"
        "assert 'ssl_zoo.views.loops' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("pip install 'ssl-zoo[cpu]'") == 1


@pytest.mark.parametrize("chosen", [False, True])
def test_what_is_compiled_is_kept_apart_for_each_version_of_numba(tmp_path, chosen):
    code = (
        "import numba\nbefore = numba.config.CACHE_DIR\n"
        "from ssl_zoo.views.rendering import render_some\n"
        "print(render_some.stats.cache_path)\nassert numba.config.CACHE_DIR == before"
    )
    environ = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path) if chosen else ""}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environ
    )
    assert done.returncode == 0, done.stderr
    version = importlib.metadata.version("numba")
    inside = tmp_path if chosen else Path(rendering.__file__).parent / "__pycache__"
    assert Path(done.stdout.strip()).is_relative_to(inside / f"numba-{version}")
