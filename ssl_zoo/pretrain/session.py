"""One session of a run: the first process holds the folder and tells the others what it found.

RUN/
  .lock             byte 0 is locked by the first process of the session, so that no other session begins;
                    byte 1 as well, once what earlier sessions left is gone: the others see by it that the
                    first process lives
  .session-ID.json  what the first process has settled, and the others wait for: the folder must be shared
  .session-ID.RANK  how another process is (see presence.py)
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments.lightning import LightningEnvironment

from ssl_zoo.distributed import world
from ssl_zoo.portable import lock_byte
from ssl_zoo.pretrain import launch
from ssl_zoo.pretrain.presence import Heart, assembled
from ssl_zoo.pretrain.writing import alive, write_atomically

T = TypeVar("T")
PATIENCE = 300.0  # seconds without a sign of the first process
GRACE = 10.0  # seconds for which a failure may be that of the session before
_open: dict[Path, Session] = {}


class RunError(RuntimeError):
    """The run folder is in use, or holds another run, or the processes of a group do not find each other."""


class Session:
    """What the processes of a group agree on before they can talk: see `share`."""

    def __init__(self, run: Path):
        self.run, self.leads, self.thread = run, launch.leads(), threading.get_ident()
        self.grouped, self.met = launch.grouped(), False
        self.facts: dict[str, Any] = {}
        self.heart: Heart | None = None
        # Kept for the next run in this process: the others of its group run the same script.
        if launch.SESSION not in os.environ:
            name = group() if self.grouped else secrets.token_hex(8)
            os.environ[launch.SESSION] = f"{os.getpid()}-{name}"
        self.file = run / f".session-{os.environ[launch.SESSION].partition('-')[2]}.json"

    def share(self, name: str, make: Callable[[], T]) -> T:
        """What `make` gives in the first process, a JSON value; the others wait for it.

        Raises:
            RunError: the first process failed, or there was no sign of it for 300 seconds.
        """
        if not self.leads:
            return self.wait(name)
        value = make()
        self.publish(**{name: value})
        return value

    def publish(self, **facts: Any) -> None:
        """Write facts, beside those before, where the other processes look for them."""
        self.facts |= facts
        write_atomically(self.file, json.dumps(self.facts).encode())

    def wait(self, name: str) -> Any:
        """The fact of this name, as soon as the first process has published it; see `share`."""
        heard = time.monotonic()
        failed: tuple[str, float] | None = None
        while True:
            living = lives(self.run)  # before the facts are read: those of an earlier session are gone then
            facts, now = self.read(), time.monotonic()
            if "failed" in facts:
                if failed is None or failed[0] != facts["token"]:
                    failed = facts["token"], now
                if now - failed[1] > GRACE:
                    raise RunError(f"the first process of this group ended: {facts['failed']}")
            elif facts and living:
                if name in facts:
                    self.facts = facts
                    return facts[name]
                heard = now
            if now - heard > PATIENCE:
                raise RunError(
                    f"no sign of the first process of this group (rank 0) in {self.run} for {PATIENCE:.0f} "
                    f"seconds, while this one waited for it to publish {name!r} there. Does it still run, "
                    "and do all processes give the same run=... on a file system that they share?"
                )
            time.sleep(0.05)

    def attend(self) -> None:
        """From now on, let the first process see that this one lives; see `assemble`."""
        place = launch.cluster()
        if not self.leads and not isinstance(place, LightningEnvironment):
            self.heart = Heart(self.sign_of(place.global_rank()), self.wait("token"))

    def assemble(self) -> None:
        """Wait until all processes are ready to meet, however long one of them takes to get its data.

        Raises:
            RunError: one of them failed, or there was no sign of it for 300 seconds.
        """
        place = launch.cluster()
        if not self.grouped or isinstance(place, LightningEnvironment):
            return  # Lightning launches the others when training begins
        if self.heart is not None:
            self.heart.ready()
        self.share("assembled", lambda: self.others_are_ready(place.world_size()))

    def others_are_ready(self, count: int) -> bool:
        signs = {rank: self.sign_of(rank) for rank in range(count) if rank != launch.cluster().global_rank()}
        if wrong := assembled(signs, self.facts["token"], PATIENCE):
            raise RunError(wrong)
        return True

    def sign_of(self, rank: int) -> Path:
        """Where a process writes how it is."""
        return self.file.with_suffix(f".{rank}")

    def read(self) -> dict[str, Any]:
        """All facts that are published by now."""
        try:
            return json.loads(self.file.read_bytes())
        except (OSError, ValueError):
            return {}

    def confirm(self, device: torch.device) -> None:
        """All processes have met. Raise RunError unless they are of one session (a collective call)."""
        self.met = True
        if self.heart is not None:
            self.heart.stop()
        if world() == 1:
            return
        mine = int(self.facts["token"])
        first = torch.tensor(mine, device=device)
        dist.broadcast(first, 0)
        if int(first) != mine:
            raise RunError(f"this process read {self.file} of an earlier session; start all processes again")


def group() -> str:
    """The same for all processes of a group, and another one for each group, as far as launchers tell."""
    told = [(key, os.environ[key]) for key in launch.GROUP if key in os.environ]
    return hashlib.blake2b(repr(told).encode(), digest_size=8).hexdigest()


@contextmanager
def locked(run: Path) -> Iterator[Session]:
    """Open a session in the folder of a run. Whoever has opened one already, in this thread, is given that.

    Raises:
        RunError: another process, or another thread, trains there.
    """
    key = run.resolve()
    if (own := _open.get(key)) is not None:
        if own.thread != threading.get_ident():
            raise RunError(f"another thread is training in {run}; choose another run=...")
        yield own
        return
    own = _open[key] = Session(run)
    try:
        with led(own) if own.leads else followed(own):
            yield own
    finally:
        del _open[key]


@contextmanager
def followed(own: Session) -> Iterator[None]:
    """Tell the first process when this fails before they have met."""
    try:
        yield
    except BaseException as error:
        if own.heart is not None:
            own.heart.stop("" if own.met else f"{error}" or type(error).__name__)
        raise
    if own.heart is not None:
        own.heart.stop()


@contextmanager
def led(own: Session) -> Iterator[None]:
    """Hold the folder, and tell the others when this fails."""
    own.run.mkdir(parents=True, exist_ok=True)
    token = str(secrets.randbits(62))
    try:
        with open(own.run / ".lock", "w") as file:
            lock(file, own.run)
            sweep(own.run)
            own.publish(token=token)
            show(file)
            yield
    except BaseException as error:
        if own.grouped and not own.met:  # others may still wait
            with contextlib.suppress(OSError):
                own.publish(token=token, failed=f"{error}" or type(error).__name__)
        else:
            own.file.unlink(missing_ok=True)
        raise
    own.file.unlink(missing_ok=True)


def lock(file: IO[str], run: Path) -> None:
    """Lock the run's lock file for this process, until the file is closed.

    The lock is the process's and not the open file's (lockf, not flock): loader workers that outlive a
    killed run by some seconds do not hold it. A file system without locks is taken as it is.
    """
    try:
        lock_byte(file.fileno(), 0, wait=False)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            return
        raise RunError(f"another process is training in {run}; choose another run=...") from error


def show(file: IO[str]) -> None:
    """Let the other processes see that this one lives; waits where one of them looks at this moment."""
    with contextlib.suppress(OSError):  # a file system without locks is taken as it is
        lock_byte(file.fileno(), 1, wait=True)


def lives(run: Path) -> bool:
    """Whether the first process of a session lives: it holds the folder, and has swept it."""
    try:
        with open(run / ".lock", "r+") as file:
            lock_byte(file.fileno(), 1, wait=False, shared=True)  # shared: others look at the same time
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def sweep(run: Path) -> None:
    """Remove what killed processes left in the folder of a run, which this process holds.

    Names hold the number of the process that writes: .NAME.PID.part is an unfinished file or folder, and
    .NAME.PID.old what it was about to replace, which is put back where NAME is missing.
    """
    for path in [*run.glob(".*"), *(run / "checkpoints").glob(".*"), *(run / "evaluations").glob(".*")]:
        left = re.fullmatch(r"\.(.+)\.(\d+)\.(part|old)", path.name)
        if left and (path.parent.name == "checkpoints" or not alive(int(left[2]))):
            if left[3] == "old" and not path.with_name(left[1]).exists():
                path.rename(path.with_name(left[1]))
            elif path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        elif path.name.startswith(".session-"):
            path.unlink(missing_ok=True)
    for path in (run / "checkpoints").glob("step-*.json"):
        if not path.with_suffix(".ckpt").exists():
            path.unlink(missing_ok=True)
