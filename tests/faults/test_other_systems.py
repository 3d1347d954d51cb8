"""Training where the system is another one: what Windows and macOS lack is taken away, and stood in for."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ssl_zoo import portable
from ssl_zoo.data import workers

# At the top of a script, so that loader workers, which are spawned, pretend as well.
START = """
import ctypes, fcntl, json, os, signal, subprocess, sys, types
import multiprocessing.popen_spawn_posix, multiprocessing.resource_tracker  # of this system's own Python
platform, real, locks, asked, removed = sys.argv[1], fcntl, [], [], []

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name in ("fcntl", "resource", "termios", "pwd", "grp"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

def locking(handle, mode, size):  # as msvcrt's: from where the file stands
    locks.append(os.lseek(handle, 0, os.SEEK_CUR))
    real.lockf(handle, real.LOCK_EX | real.LOCK_NB, size, locks[-1])

def open_process(access, inherit, number):
    asked.append(number)
    return 0

def installed(kilobytes):
    kilobytes._obj.value = 8 << 20
    return True

import lightning, lightning.pytorch.loggers, numba, scipy.stats, sklearn.datasets, sklearn.linear_model
import tensorboard.summary, timm, torch, torch.utils.tensorboard, torch._dynamo
# The ways of those are not what is tried.
absent = ["preadv", "O_DIRECTORY", "sched_getaffinity"]
if platform == "win32":
    absent += ["sysconf", "register_at_fork", "O_CLOEXEC", "O_NONBLOCK"]
    for name in ("SIGUSR1", "SIGUSR2", "SIGBUS", "SIGPIPE", "pthread_sigmask"):
        delattr(signal, name)
    multiprocessing.resource_tracker._HAVE_SIGMASK = False
    signal.valid_signals = lambda: {signal.SIGINT, signal.SIGTERM, signal.SIGABRT}
for name in absent:
    delattr(os, name)
delattr(signal, "sigwaitinfo")
if platform == "win32":
    for name in ("fcntl", "resource", "termios"):
        sys.modules.pop(name, None)
    sys.meta_path.insert(0, Hidden())
    sys.modules["msvcrt"] = types.SimpleNamespace(locking=locking, LK_NBLCK=2)
    lightning.pytorch.trainer.connectors.signal_connector._IS_WINDOWS = True  # it found out when imported
    kernel = types.SimpleNamespace(
        OpenProcess=open_process, CloseHandle=None, GetPhysicallyInstalledSystemMemory=installed)
    ctypes.windll = types.SimpleNamespace(kernel32=kernel)
import ssl_zoo, ssl_zoo.cli, ssl_zoo.portable, ssl_zoo.cli.verb, ssl_zoo.compose.pretraining
import ssl_zoo.data.image_store as image_store
image_store.MAPPED = 0  # rows are read from the file, and not from memory
sys.platform = platform
"""
TRAIN = """
if __name__ == "__main__":
    import torch.multiprocessing
    torch.multiprocessing.set_start_method("spawn", force=True)
    words = dict(objective="rotation", backbone="resnet_micro", data="digits", run=sys.argv[2])
    words |= dict(budget={"steps": 2}, trainer="cpu", batch_size=8, evaluate_every=0, progress=False)
    run = ssl_zoo.pretrain(**words, workers=int(sys.argv[3]))
    again = ssl_zoo.load(sys.argv[2])
    told = {"steps": run.summary["steps"], "locks": locks, "backbone": type(again).__name__}
    if platform == "win32":
        told["memory"] = ssl_zoo.portable.memory()
        told["runs"], told["asked"] = ssl_zoo.portable.runs(4242), asked
    print(json.dumps(told))
"""


@pytest.mark.parametrize(
    ("platform", "loaders"), [("win32", 0), pytest.param("darwin", 1, marks=pytest.mark.slow)]
)
def test_training_on_another_system(tmp_path: Path, platform: str, loaders: int, monkeypatch):
    monkeypatch.setenv("SSL_ZOO_CACHE", str(tmp_path / "cache"))
    script = tmp_path / "script.py"
    script.write_text(START + TRAIN)
    done = subprocess.run(
        [sys.executable, str(script), platform, str(tmp_path / "run"), str(loaders)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["steps"], told["backbone"]) == (2, "TimmCNN")
    if platform == "win32":
        assert {0, 1} <= set(told["locks"]), "the two bytes of a run"
        assert (told["memory"], told["runs"], told["asked"][-1]) == (8 << 30, False, 4242)


class Bytes:
    """What msvcrt locks, as one process sees it while another holds byte 7."""

    LK_NBLCK = 2

    def __init__(self, held: int):
        self.held, self.tries = held, 0

    def locking(self, handle: int, mode: int, size: int) -> None:
        self.tries += 1
        if os.lseek(handle, 0, os.SEEK_CUR) == 7 and self.tries <= self.held:
            raise PermissionError(errno.EACCES, "Permission denied")


def test_locks_of_windows_wait_and_refuse(tmp_path: Path, monkeypatch):
    theirs = Bytes(held=2)
    monkeypatch.setattr(portable, "fcntl", None)
    monkeypatch.setattr(portable, "msvcrt", theirs)
    with open(tmp_path / "lock", "w") as file:
        portable.lock_byte(file.fileno(), 3, wait=False)
        assert theirs.tries == 1
        with pytest.raises(BlockingIOError):
            portable.lock_byte(file.fileno(), 7, wait=False)
        portable.lock_byte(file.fileno(), 7, wait=True)  # free from the third try on
    assert theirs.tries == 3


def test_signals_that_cannot_be_put_off_are_left_alone(monkeypatch):
    monkeypatch.delattr(signal, "pthread_sigmask")
    monkeypatch.delattr(signal, "sigwaitinfo", raising=False)
    before = {number: signal.getsignal(number) for number in workers.DEAF}
    try:
        with portable.blocked(workers.DEAF):
            workers.deafen(0)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_what_is_open_is_removed_once_closed(tmp_path: Path, monkeypatch):
    path = tmp_path / "lock"
    handle = os.open(path, os.O_RDWR | os.O_CREAT)
    remove, opened = Path.unlink, [handle]

    def unlink(self: Path, missing_ok: bool = False) -> None:
        try:
            os.fstat(opened[0])
        except OSError:
            return remove(self, missing_ok)
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "unlink", unlink)
    portable.remove_held(path, handle)
    assert not path.exists()


def test_reading_at_a_place_needs_no_preadv(tmp_path: Path, monkeypatch):
    path = tmp_path / "bytes"
    path.write_bytes(bytes(range(100)))
    handle, into = portable.open_to_read(path), np.zeros((2, 5), np.uint8)
    try:
        for _ in range(2):
            assert portable.read_at(handle, into.reshape(-1), 30) == 10
            assert into.tobytes() == bytes(range(30, 40))
            assert portable.read_at(handle, into.reshape(-1), 95) == 5
            monkeypatch.delattr(os, "preadv", raising=False)
    finally:
        os.close(handle)


def test_one_file_alone_asks_what_a_system_has():
    package = Path(portable.__file__).parent
    names = r"\b(fcntl|msvcrt|preadv|sysconf\(|sched_getaffinity|O_DIRECTORY|O_CLOEXEC|O_NONBLOCK|windll|"
    names += r"pthread_sigmask|register_at_fork|os\.fork\b|SIGUSR\d\b(?!\")|SIGPIPE,|sys\.platform)"
    odd = re.compile(names)
    found = {
        f"{file.relative_to(package)}: {line.strip()}"
        for file in package.rglob("*.py")
        if file.name != "portable.py"
        for line in file.read_text(encoding="utf-8").splitlines()
        if odd.search(line.split("#")[0]) and '"""' not in line
    }
    assert not found
