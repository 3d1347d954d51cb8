"""Disks that are full, folders that may not be written, and a $TMPDIR on another file system."""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import image_files
import pytest
import tiny
from disks import NOT_PERMITTED, skipped, small_disk
from tiny import Pictures, forked, train

from ssl_zoo.pretrain.checkpoint import newest

ROOM = 4 << 20


class Filling(Pictures):
    """Rows that fill the disk when the sixth batch is read, after the first checkpoint of two."""

    def __init__(self, ballast: Path, **options):
        super().__init__(**options)
        self.ballast, self.reads = ballast, 0

    def read(self, index, epoch=0):
        self.reads += 1
        if self.reads == 6:
            fill(self.ballast)
        return super().read(index, epoch)


def fill(file: Path) -> None:
    with open(file, "wb", buffering=0) as out:
        try:
            while True:
                out.write(b"x" * 4096)
        except OSError:
            pass


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def second_checkpoint(folder: Path) -> None:
    """Both sessions of a run whose disk fills up in between, as the disk is gone with the process."""
    disk = folder / "disk"
    small_disk(disk, ROOM)
    try:
        train(disk / "run", build=(tiny.ZOO["mae"][0], lambda seed: Filling(disk / "ballast", seed=seed)))
    except Exception as error:
        found = {"error": f"{type(error).__name__}: {error}", "left": listing(disk / "run/checkpoints")}
        (folder / "found.json").write_text(json.dumps(found))
    (disk / "ballast").unlink()
    train(disk / "run", "mae")
    shutil.copy(disk / "run/sha256", folder / "sha256")


@pytest.mark.fault("disk", how="a small disk that is full at the second checkpoint; then there is room again")
@pytest.mark.fault("late save", how="a disk that is full at the second checkpoint")
def test_a_disk_that_is_full_at_the_second_checkpoint(tmp_path):
    code, log = forked(tmp_path, train, tmp_path / "unharmed", "mae")
    assert code == 0, log
    code, log = forked(tmp_path, second_checkpoint, tmp_path)
    if code == NOT_PERMITTED:
        skipped(log)
    assert code == 0, log
    found = json.loads((tmp_path / "found.json").read_text())
    assert "CheckpointError: could not write" in found["error"]
    assert "step-000000000008.ckpt" in found["error"]
    assert "No space left on device" in found["error"]
    assert "are free" in found["error"]
    assert found["left"] == ["step-000000000004.ckpt", "step-000000000004.json"]
    assert "resuming    after step 4" in log
    assert (tmp_path / "sha256").read_text() == (tmp_path / "unharmed/sha256").read_text()


IMAGES = (
    *("pretrain", "objective=rotation", "backbone=resnet_micro", "data=image_folder", "data.train=photos"),
    *("data.image_size=64", "batch_size=4", "budget.steps=1", "trainer=cpu", "run=run"),
)
TEXT = (
    *("pretrain", "objective=next_token", "backbone=transformer_micro", "backbone.width=16"),
    *("backbone.depth=1", "backbone.heads=2", "data=text_files", "data.train=text.txt", "tokenizer=bytes"),
    *("context=16", "batch_size=4", "budget.steps=1", "trainer=cpu", "run=run"),
)


def full_cache(folder: Path, words: tuple[str, ...]) -> None:
    """The command with a cache that is too small, and what it leaves there."""
    small_disk(folder / "cache", 64 << 10)
    try:
        tiny.called(folder, folder / "cache", words)
    finally:
        (folder / "left.json").write_text(json.dumps(listing(folder / "cache")))


@pytest.mark.fault("disk", how="a small disk that is full while a store of images or of tokens is built")
@pytest.mark.parametrize(("kind", "words"), [("images", IMAGES), ("text", TEXT)], ids=["images", "text"])
def test_a_disk_that_is_full_while_a_store_is_built(tmp_path, kind, words):
    image_files.folder(tmp_path / "photos", {"cat": 20, "dog": 20})
    (tmp_path / "text.txt").write_text("\n\n".join("how now brown cow " * 200 for _ in range(50)))
    code, log = forked(tmp_path, full_cache, tmp_path, words)
    if code == NOT_PERMITTED:
        skipped(log)
    assert code == 1, log
    assert "Traceback" not in log, log
    assert "No space left on device" in log
    assert f"cache/{kind}" in log
    left = json.loads((tmp_path / "left.json").read_text())
    assert [name for name in left if not name.endswith(".lock")] == []
    code, log = tiny.command(tmp_path, tmp_path / "roomy", *words)
    assert code == 0, log


# Another user's folders


@pytest.fixture
def public():
    """A folder that every user may enter, and only this one may write."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def as_nobody(folder: Path, cache: Path, words: tuple[str, ...]) -> None:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    if not os.access(Path(tiny.__file__), os.R_OK):
        print("another user may not read this repository")
        sys.exit(NOT_PERMITTED)
    tiny.called(folder, cache, words)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.fault(
    "disk", how="the run folder, the cache, or the evaluations of a run belong to another user"
)
@pytest.mark.parametrize("what", ["run", "cache", "evaluations"])
def test_folders_of_another_user(public, what):
    for name in ("cache", "open"):
        (public / name).mkdir()
    (public / "open").chmod(0o777)
    digits = ("data=digits", "data.image_size=8")
    words = (
        "pretrain",
        "objective=rotation",
        "backbone=resnet_micro",
        *digits,
        "budget.steps=1",
        "trainer=cpu",
    )
    run, cache = "mine", public / "open/cache"
    if what == "run":
        run = "open/../mine"
    elif what == "cache":
        run, cache = "open/run", public / "cache"
    else:
        code, log = tiny.command(public, public / "open/cache", *words, "run=mine")
        assert code == 0, log
        for path in (public / "open/cache").rglob("*"):
            path.chmod(0o777)
        words = ("evaluate", *digits, "protocol=knn", "data.test_fraction=0.2", "device=cpu")
    code, log = forked(public, as_nobody, public, cache, (*words, f"run={run}"))
    if code == NOT_PERMITTED:
        skipped(log)
    assert code == 1, log
    assert "Traceback" not in log, log
    assert "Permission denied" in log
    assert {"run": "mine", "cache": "cache/images", "evaluations": "mine/evaluations"}[what] in log


def elsewhere(folder: Path, temporary: Path) -> None:
    os.environ["TMPDIR"] = str(temporary)
    tempfile.tempdir = None
    assert tempfile.gettempdir() == str(temporary)
    train(folder, "mae", steps=5)


@pytest.mark.fault("disk", how="$TMPDIR on another file system (EXDEV for whoever renames from there)")
def test_a_temporary_folder_on_another_file_system(tmp_path):
    temporary = Path(tempfile.mkdtemp(dir="/dev/shm")) if Path("/dev/shm").is_dir() else tmp_path
    if temporary.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no other file system")
    try:
        code, log = forked(tmp_path, elsewhere, tmp_path / "run", temporary)
        assert code == 0, log
        assert newest(tmp_path / "run/checkpoints") is not None
        assert list(temporary.iterdir()) == []
    finally:
        shutil.rmtree(temporary)
