"""Which process of which group this is, read from the launcher's variables before the processes have met.

Lightning's own classes read the variables of torchrun, srun, jsrun and mpirun, in its order. Beside them
stand processes numbered by hand (RANK and WORLD_SIZE) or by an MPI without mpi4py (PMI_RANK and PMI_SIZE).
"""

from __future__ import annotations

import atexit
import os
import warnings
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.kubeflow import KubeflowEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.lsf import LSFEnvironment
from lightning.fabric.plugins.environments.mpi import MPIEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.accelerators import AcceleratorRegistry
from torch.distributed.constants import default_pg_timeout
from torch.distributed.distributed_c10d import PrefixStore

# PID-NAME: names the sessions of a process to those that Lightning launches for it.
SESSION = "SSL_ZOO_SESSION"
# What tells one group of processes from another, of those that a launcher sets alike for all of a group.
GROUP = (
    *("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "SLURM_JOB_ID", "SLURM_STEP_ID"),
    *("SLURM_RESTART_COUNT", "LSB_JOBID", "PMIX_NAMESPACE", "MASTER_ADDR", "MASTER_PORT"),
)
# RANK, WORLD_SIZE and LOCAL_RANK as MPICH, Intel MPI, Open MPI and jsrun call them.
MPI = (
    ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
    ("JSM_NAMESPACE_RANK", "JSM_NAMESPACE_SIZE", "JSM_NAMESPACE_LOCAL_RANK"),
)


class LauncherError(RuntimeError):
    """The variables of a launcher contradict each other, as those do that another command left behind."""


class DeviceError(RuntimeError):
    """The trainer asks for a device that this machine does not have."""


def cluster() -> ClusterEnvironment:
    """How Lightning is to find the other processes.

    Sets the variables that Lightning reads where a launcher that it does not know numbered them by others.

    Raises:
        LauncherError: variables that no launcher sets so.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*The `srun` command is available.*")
        if by_lightning():
            return LightningEnvironment()
        if TorchElasticEnvironment.detect():
            if missing := {"RANK", "WORLD_SIZE", "LOCAL_RANK"} - os.environ.keys():
                raise left_over("TORCHELASTIC_RUN_ID", f"without {', '.join(sorted(missing))}")
            numbered("RANK", "WORLD_SIZE")
            return TorchElasticEnvironment()
        if under_srun():
            numbered("SLURM_PROCID", "SLURM_NTASKS")
            # Lightning takes no `srun --ntasks=2` without it, and compares it with the trainer's devices.
            each = number("SLURM_NTASKS", 1) // max(number("SLURM_NNODES", 1), 1)
            os.environ.setdefault("SLURM_NTASKS_PER_NODE", str(each))
            return SLURMEnvironment(auto_requeue=False)  # see stopping.py
        for kind in (LSFEnvironment, MPIEnvironment):
            if kind.detect():
                return kind()
    for names in MPI:
        # The size alone may be of a shell in which processes were launched: it numbers nobody.
        if names[0] in os.environ and "RANK" not in os.environ and number(names[1], 1) > 1:
            numbered(*names[:2])
            rank = os.environ[names[0]]
            os.environ |= {"RANK": rank, "WORLD_SIZE": os.environ[names[1]]}
            os.environ["LOCAL_RANK"] = os.environ.get(names[2], rank)
    if "RANK" in os.environ:
        numbered("RANK", "WORLD_SIZE")
    elif number("GROUP_RANK", 0) and not {"NODE_RANK", "LOCAL_RANK"} & os.environ.keys():
        raise left_over("GROUP_RANK", "without RANK and WORLD_SIZE")
    if "RANK" in os.environ and number("WORLD_SIZE", 1) > 1:
        return TorchElasticEnvironment() if "LOCAL_RANK" in os.environ else KubeflowEnvironment()
    return LightningEnvironment()


def number(name: str, default: int) -> int:
    """A launcher's variable, a whole number. Raises LauncherError if it is something else."""
    value = os.environ.get(name, str(default))
    if not value.isdecimal():
        raise left_over(name, f"of {value!r}, which is no number")
    return int(value)


def numbered(rank: str, size: str) -> None:
    """Raise LauncherError unless these variables number one of so many processes."""
    if not number(rank, 0) < number(size, 1):
        raise left_over(rank, f"of {os.environ[rank]} among {number(size, 1)} processes ({size})")


def left_over(name: str, what: str) -> LauncherError:
    """The error for a variable that no launcher sets so; what: its value, or what it lacks."""
    return LauncherError(
        f"the environment has a {name} {what}: no launcher sets it so, and it may be left over from another "
        f"command. Remove it (unset {name}), or launch all processes with torchrun, srun or mpirun"
    )


def by_lightning() -> bool:
    """Whether the process above called the command again, through Lightning, for this one.

    Its number tells: the variable alone may be of any process before, which had trained by itself.
    """
    by, _, name = os.environ.get(SESSION, "").partition("-")
    return bool(name) and by == str(os.getppid()) and os.environ.get("LOCAL_RANK", "0") != "0"


def under_srun() -> bool:
    """Whether srun started this process together with others.

    The shell of an allocation (salloc, sbatch) has some of SLURM's variables too, and one task is no group.
    Where that shell is a step of its own, SLURM_NTASKS is of the allocation and SLURM_STEP_NUM_TASKS is 1.
    """
    return (
        {"SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"} <= os.environ.keys()
        and number("SLURM_NTASKS", 1) > 1
        and number("SLURM_STEP_NUM_TASKS", 2) > 1
        and SLURMEnvironment.detect()
    )


def leads() -> bool:
    """Whether this is the first process of its group, or the only one: it looks after the run folder."""
    place = cluster()
    if isinstance(place, LightningEnvironment):
        return int(os.environ.get("RANK", "0")) == place.local_rank() == place.node_rank() == 0
    return place.global_rank() == 0


def grouped() -> bool:
    """Whether other processes start together with this one, and are not waited for by it."""
    place = cluster()
    if isinstance(place, LightningEnvironment):
        return not by_lightning() and ("LOCAL_RANK" in os.environ or "NODE_RANK" in os.environ)
    return place.world_size() > 1


def join(strategy: Any, token: str) -> None:
    """Meet the other processes of torchrun's, under names of this session.

    What they tell each other lies in the agent's store, which outlives a group that it starts again. Torch
    2.15 looks there under the same names as before, and finds the addresses of processes that are dead.
    Lightning takes a group that is there as it is.

    Args:
        strategy: Lightning's, which will use the group. token: the same for all processes of a session.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True" or dist.is_initialized():
        return
    place = cluster()
    if not isinstance(place, TorchElasticEnvironment) or place.world_size() == 1:
        return
    where, count = (place.main_address, place.main_port), place.world_size()
    tcp = dist.TCPStore  # pyright: ignore[reportPrivateImportUsage]
    patience = getattr(strategy, "_timeout", None) or default_pg_timeout
    store = tcp(*where, count, is_master=False, timeout=patience)
    chosen = getattr(strategy, "process_group_backend", None)
    backend = chosen or dist.get_default_backend_for_device(strategy.root_device)
    own = PrefixStore(f"session {token}", store)
    dist.init_process_group(backend, store=own, rank=place.global_rank(), world_size=count, timeout=patience)
    if backend == "nccl":
        atexit.register(lambda: dist.is_initialized() and dist.destroy_process_group())


def refuse_absent_device(trainer: Mapping[str, Any]) -> None:
    """Raise DeviceError if Lightning's `accelerator` and `devices` ask for what is not here."""
    name, devices = trainer.get("accelerator", "auto"), trainer.get("devices", "auto")
    if isinstance(devices, int) and (devices < -1 or devices == 0 or (devices == -1 and name == "cpu")):
        raise DeviceError(
            f"trainer.devices={devices}: training takes a device at least.\nTake trainer.devices=1 or more, "
            "or trainer.devices=auto."
        )
    known = {"gpu": ("cuda", "mps")}.get(name, (name,)) if isinstance(name, str) else ()
    kinds = [AcceleratorRegistry[kind]["accelerator"] for kind in known if kind in AcceleratorRegistry]
    if not kinds or name == "cpu":
        return  # "auto" takes what there is, and Lightning names its own
    found = [kind for kind in kinds if kind.is_available()]
    if not found:
        built = "" if torch.version.cuda or torch.version.hip else ", and this torch was built for the CPU"
        raise DeviceError(
            f"trainer.accelerator={name}: no such device was found on this machine{built}.\n"
            "Take trainer=cpu (or trainer=auto: whatever is here), or a machine and a torch that have one."
        )
    count = found[0].auto_device_count()
    wanted = devices if isinstance(devices, int) else max(devices) + 1 if isinstance(devices, list) else 0
    if wanted > count:
        raise DeviceError(
            f"trainer.devices={devices}: this machine has {count} of trainer.accelerator={name}.\n"
            f"Take trainer.devices={count}, or trainer.devices=auto for all of them."
        )
