"""The wheel alone, as it lies on a machine of others: site-packages read-only, no home, no network."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

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


@pytest.mark.fault(
    "wheel", how="built, unpacked and mounted read-only; no home, a namespace without a network, from /"
)
def test_the_wheel_alone(tmp_path):
    uv = Path(sys.executable).with_name("uv")
    if not uv.exists():
        pytest.skip("uv is not there")
    build = [uv, "build", "--wheel", "--quiet", "--out-dir", tmp_path / "dist", REPOSITORY]
    built = subprocess.run(build, capture_output=True, text=True, check=False)
    if built.returncode and "resolve requirements from `build-system.requires`" in built.stderr:
        pytest.skip("the build backend cannot be fetched")
    assert built.returncode == 0, built.stderr
    site, work = tmp_path / "site", tmp_path / "work"
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    for path in (site, *site.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = sorted(site.rglob("*"))
    work.mkdir()
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("HOME", "PYTHONPATH", "XDG_CACHE_HOME", "SSL_ZOO_DATA")
    }
    environment |= {"PYTHONPATH": str(site), "SSL_ZOO_CACHE": str(work / "cache"), "HOME": "/nonexistent"}

    run = work / "run"
    digits = ("data=digits", "data.image_size=8", f"run={run}")
    words = [
        ("list",),
        ("pretrain", "objective=rotation", "backbone=resnet_micro", *digits, "budget.steps=2", "trainer=cpu"),
        ("evaluate", *digits, "protocol=knn", "data.test_fraction=0.2", "device=cpu"),
    ]
    program = [sys.executable, "-c", PROGRAM, json.dumps(words)]
    ended = subprocess.run(
        program, cwd="/", env=environment, capture_output=True, text=True, timeout=400, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "mae_small" in ended.stdout
    assert "pretrained: accuracy" in ended.stdout
    assert (run / "backbone/model.safetensors").exists()
    assert sorted(site.rglob("*")) == before
    for path in (site, *site.rglob("*")):  # so that pytest can remove it
        path.chmod(0o755)
