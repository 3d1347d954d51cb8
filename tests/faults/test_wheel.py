"""The wheel and the sdist, installed into a fresh environment without extras and development tools, which is
run as on a machine of others: site-packages read-only, no home, no network."""

import json
import os
import re
import subprocess
import sys
import tarfile
import time
import tomllib
from pathlib import Path

import pytest

import ssl_zoo

REPOSITORY = Path(__file__).parents[2]
# Read-only also for root, and without a network, where the system permits such namespaces: mounts are private
# (0x44000), the folder is bound to itself (0x1000), and that mount is made read-only (0x1021).
PROGRAM = """
import ctypes, json, os, socket, sys
system, site = ctypes.CDLL(None), os.environ["PYTHONPATH"].encode()
if system.unshare(0x20000 | 0x40000000):
    socket.getaddrinfo = socket.socket.connect = None
else:
    system.mount(None, b"/", None, 0x44000, None)
    system.mount(site, site, None, 0x1000, None)
    system.mount(None, site, None, 0x1021, None)
assert os.getuid() == 0 or not os.access(site, os.W_OK)
import ssl_zoo.cli
assert ssl_zoo.__file__.startswith(os.environ["PYTHONPATH"]), ssl_zoo.__file__
for words in json.loads(sys.argv[1]):
    sys.argv = ["ssl-zoo", *words]
    ssl_zoo.cli.main()
"""


# Seconds on a quiet machine, and how many times as long a busy one may take, whose tests run side by side.
HELP, LINE, MARGIN = 1.0, 2.0, 5.0
EXTRAS = ("numba", "matplotlib", "vl_convert", "tensorboard", "pytest", "ruff", "pyright", "playwright")


def first_line(command: list[str | Path], **how) -> tuple[str, float]:
    """What a command prints first, on either output, and after how many seconds; it is ended then."""
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **how) as ran:
        assert ran.stdout is not None
        line = ran.stdout.readline()
        seconds = time.perf_counter() - began
        ran.kill()
    return line, seconds


def built(folder: Path) -> tuple[Path, Path]:
    """The wheel and the sdist, which the wheel is built from."""
    uv = Path(sys.executable).with_name("uv")
    if not uv.exists():
        pytest.skip("uv is not there")
    done = subprocess.run(
        [uv, "build", "--quiet", "--out-dir", folder, REPOSITORY], capture_output=True, text=True, check=False
    )
    if done.returncode and "resolve requirements from `build-system.requires`" in done.stderr:
        pytest.skip("the build backend cannot be fetched")
    assert done.returncode == 0, done.stderr
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


@pytest.mark.fault(
    "wheel",
    how="installed without extras and mounted read-only; no home, a namespace without a network, from /",
)
def test_a_fresh_environment(tmp_path, capsys):
    wheel, sdist = built(tmp_path / "dist")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "configs/pretrain.yaml", "ssl_zoo/py.typed", "LICENSE"} <= names
    environment = {
        key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")
    }
    environment |= {"SSL_ZOO_CACHE": str(tmp_path / "cache"), "MPLCONFIGDIR": str(tmp_path)}
    uv, python = Path(sys.executable).with_name("uv"), tmp_path / "fresh/bin/python"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, tmp_path / "fresh"], check=True)
    # What the tests' own environment was installed from is in uv's cache.
    install = [uv, "pip", "install", "--quiet", "--offline", "--python", python, wheel]
    done = subprocess.run(
        [*install, "--constraint", REPOSITORY / "requirements.lock"],
        env=os.environ | {"UV_COMPILE_BYTECODE": "0"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"the packages are not in uv's cache: {done.stderr[-200:]}")
    (site,) = (tmp_path / "fresh/lib").glob("python*/site-packages")
    packages = {path.name.partition("-")[0].lower() for path in site.glob("*.dist-info")}
    size = sum(path.stat().st_size for path in site.rglob("*") if path.is_file() and not path.is_symlink())
    torch_size = sum(
        path.stat().st_size
        for name in ("torch", "nvidia", "triton", "cuda")
        for path in (site / name).rglob("*")
        if path.is_file()
    )
    with capsys.disabled():
        rest = (size - torch_size) / 1e6
        print(f"\nfresh: {len(packages)} packages, {size / 1e6:,.0f} MB, {rest:,.0f} without torch and CUDA")
    assert not [name for name in EXTRAS if (site / name).exists()]

    work = tmp_path / "work"
    work.mkdir()
    command, how = tmp_path / "fresh/bin/ssl-zoo", {"cwd": work, "env": environment}
    words = ["objective=rotation", "backbone=resnet_micro", "data=digits", "data.image_size=8", "trainer=cpu"]
    words = ["pretrain", *words, "budget.steps=2", "batch_size=8", "evaluate_every=0", "run=run"]
    for asked, most in (
        ([command, "--help"], HELP),
        ([command, "pretrain", "--help"], HELP),
        ([command, *words], LINE),
    ):
        tries = [first_line(asked, **how) for _ in range(3)]  # the first compiles bytecode
        assert tries[-1][0].startswith(("ssl-zoo", "Stage 1"))
        least = min(seconds for _, seconds in tries)
        with capsys.disabled():
            print(f"fresh: {' '.join(map(str, asked[1:3]))} prints after {least:.2f} s (bar {most:g} s)")
        assert least < MARGIN * most, (asked, tries)
    assert tries[-1][0].startswith(f"ssl-zoo {' '.join(words)}: begins")

    alone(site, work, environment)
    reported = subprocess.run([command, "report", "run"], capture_output=True, text=True, check=False, **how)
    assert reported.returncode == 1
    assert reported.stderr.splitlines()[-1] == (
        "ssl-zoo report: pages and charts need vl-convert: pip install 'ssl-zoo[pages]'"
    )


def alone(site: Path, work: Path, environment: dict[str, str]) -> None:
    """A run and its evaluation from a folder of packages that nobody may write into, without a home."""
    run, package = work / "run", site / "ssl_zoo"
    digits = ("data=digits", "data.image_size=8", f"run={run}")
    words = [
        ("list",),
        ("pretrain", "objective=rotation", "backbone=resnet_micro", *digits, "budget.steps=2", "trainer=cpu"),
        ("evaluate", *digits, "protocol=knn", "data.test_fraction=0.2", "device=cpu"),
    ]
    homeless = {
        key: value for key, value in environment.items() if key not in ("XDG_CACHE_HOME", "SSL_ZOO_DATA")
    }
    homeless |= {"PYTHONPATH": str(site), "HOME": "/nonexistent"}
    before = sorted(package.rglob("*"))
    for path in (package, *before):
        path.chmod(0o555 if path.is_dir() else 0o444)
    program = [site.parents[2] / "bin/python", "-c", PROGRAM, json.dumps(words)]
    try:
        ended = subprocess.run(
            program, cwd="/", env=homeless, capture_output=True, text=True, timeout=400, check=False
        )
    finally:
        for path in (package, *before):  # so that pytest can remove it
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert ended.returncode == 0, ended.stderr
    assert "mae_small" in ended.stdout
    assert "loggers     CSV (TensorBoard: pip install 'ssl-zoo[tensorboard]')" in ended.stdout
    assert "pretrained: accuracy" in ended.stdout
    assert (run / "backbone/model.safetensors").exists()
    assert sorted(package.rglob("*")) == before


def test_one_version_is_written_everywhere():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == ssl_zoo.__version__
    assert f"version: {ssl_zoo.__version__}\n" in (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\n## {ssl_zoo.__version__}" in (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")


def test_extras_that_messages_and_the_dockerfile_name_are_there():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    docker = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
    files = [
        docker,
        *(file.read_text(encoding="utf-8") for file in Path(ssl_zoo.__file__).parent.rglob("*.py")),
    ]
    named = {name for text in files for name in re.findall(r"ssl-zoo\[([a-z]+)\]", text)}
    named |= set(re.search(r"^ARG EXTRAS=(.+)$", docker, re.MULTILINE)[1].split(","))  # pyright: ignore
    assert named >= {"pages", "cpu", "tensorboard", "hf"}
    assert named <= extras.keys()
    low, high = re.match(r">=3\.(\d+),<3\.(\d+)", project["requires-python"]).groups()  # pyright: ignore
    image = int(re.search(r"^FROM python:3\.(\d+)-", docker, re.MULTILINE)[1])  # pyright: ignore
    assert int(low) <= image < int(high)
    for words in re.findall(r"uv pip install (.+?) \\\n", docker):
        options = re.findall(r"--[a-z-]+", words + " --torch-backend")
        known = subprocess.run([Path(sys.executable).with_name("uv"), "pip", "install", "--help"],
                               capture_output=True, text=True, check=True).stdout  # fmt: skip
        assert [one for one in options if one not in known] == []
