"""Loader workers: they outlive signals that are meant for training, and their deaths are explained."""

from __future__ import annotations

import errno
import multiprocessing
import os
import re
import shutil
import signal
import threading
from collections.abc import Iterator
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

from ssl_zoo import portable
from ssl_zoo.data.rows import DataError

# Sent to the whole process group by terminals, service managers and schedulers. Workers leave when the
# process that reads from them does (torch watches it), or tells them to.
DEAF = portable.signals("SIGINT", "SIGTERM", "SIGUSR1")
SHARED = "/dev/shm"
GONE = (ConnectionError, EOFError, FileNotFoundError)  # what reading from a dead process raises


class WorkerError(RuntimeError):
    """A loader worker died; says which, the likely cause, and what to do."""


def may_have_children() -> bool:
    """Whether Python lets this process start others: a daemonic one may not."""
    return not multiprocessing.current_process().daemon


def deafen(_: int) -> None:
    """The first thing that a worker does; it was started with these signals blocked."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # threads of the tokenizers did not come along in a fork
    if hasattr(signal, "sigwaitinfo"):  # not on macOS
        portable.block({signal.SIGTERM})
        threading.Thread(target=leave_when_told, daemon=True).start()
    for number in DEAF - {signal.SIGTERM}:
        signal.signal(number, signal.SIG_IGN)
        portable.unblock(number)


def leave_when_told() -> None:
    """SIGTERM counts if it comes from the process that reads: it ends its workers so, and waits for them."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


def hand_over(item: Any) -> Any:
    """The same item, its tensors in shared memory.

    torch does so in a thread of the worker, which prints what goes wrong while training waits for ever; here
    the error takes the place of the item.
    """
    if isinstance(item, Tensor):
        item.share_memory_()
    elif isinstance(item, tuple):
        for part in item:
            hand_over(part)
    return item


class Loader(DataLoader):
    """A DataLoader whose workers ignore signals, and whose errors say what happened to a worker."""

    def __init__(self, *args: Any, **options: Any):
        if options.get("num_workers"):
            options["collate_fn"] = hand_over
        super().__init__(*args, worker_init_fn=deafen, **options)
        self.__dict__["workers"] = []

    def __iter__(self) -> Iterator[Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.watched() if self.num_workers else super().__iter__()

    def watched(self) -> Iterator[Any]:
        main = threading.current_thread() is threading.main_thread()
        try:
            with portable.blocked(DEAF if main else set()):
                items: Any = super().__iter__()
        except OSError as error:
            help = room() if error.errno == errno.ENOSPC else "Take fewer workers=, or workers=0"
            raise WorkerError(f"a loader worker could not be started: {error}. {help}.") from error
        self.workers = items._workers
        while True:
            try:
                item = next(items)
            except StopIteration:
                return
            except DataError as error:
                # torch puts the worker's traceback into the message; its last line is what was said.
                raise DataError(re.split(r"\n\S*DataError: ", f"{error}")[-1].strip()) from None
            except (RuntimeError, *GONE) as error:
                raise self.explain(error) or error from error
            yield item

    def explain(self, error: BaseException | None) -> WorkerError | None:
        """What an error says about the workers; None if it comes from elsewhere.

        Also for errors that torch raises in the middle of a step, or of a checkpoint, when it is told that a
        worker died.
        """
        if isinstance(error, WorkerError) or not self.workers:
            return None
        text, gone = f"{error}", False
        while error is not None:  # the first of a chain
            text, gone = f"{error}\n{text}", gone or isinstance(error, GONE)
            error = error.__cause__ or error.__context__
        in_worker = "in DataLoader worker process" in text
        if in_worker and re.search(r"shared memory|\(shm\)|/torch_|No space left", text):
            return WorkerError(f"a loader worker found no room in {SHARED}. {room()}")
        if "DataLoader worker (pid" not in text and not gone:
            return None
        for worker in self.workers:
            worker.join(0.2)  # it is dead, and may not have been waited for yet
        dead = [(i, w.pid, w.exitcode) for i, w in enumerate(self.workers) if w.exitcode not in (None, 0)]
        if not dead:
            return None
        number, pid, code = dead[0]
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        killed, no_room = (-(portable.number(name) or code) for name in ("SIGKILL", "SIGBUS"))
        why = {
            killed: "The system kills processes where memory runs out (the kernel's log says so): "
            "take fewer workers=, a smaller batch_size=, or more memory",
            no_room: room(),
        }.get(code, "Try workers=0, which reads in the training process and shows what goes wrong")
        return WorkerError(f"loader worker {number} of {self.num_workers} (pid {pid}) {how}. {why}.")


def room() -> str:
    """How large the memory is through which workers hand over batches, and what to do about it."""
    try:
        space = shutil.disk_usage(SHARED)
        size = f"{SHARED} has {space.total / 2**20:,.0f} MB, {space.free / 2**20:,.0f} of them free"
    except OSError:
        size = f"{SHARED} is not there"
    return (
        f"Workers hand over batches through shared memory, and {size}: enlarge it "
        "(docker run --shm-size=1g), take fewer workers=, or workers=0"
    )
