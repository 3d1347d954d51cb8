"""Batch norm over the global batch: the mean and variance of a channel are those of all processes.

Batch norm of each process's own rows (torch's default) makes two processes of N rows another network than
one of 2 N. torch's SyncBatchNorm mends that on GPUs alone, and not for timm's norms with an activation
inside. Here each process finds mean and variance of its rows, `gather` brings everyone's together with
their gradient, and they are combined as Chan et al. 1979 do ("Updating formulae and a pairwise algorithm for
computing sample variances"):

    n = sum_p n_p;  m = sum_p (n_p / n) m_p;  v = sum_p (n_p / n) (v_p + (m_p - m)^2)

On one process these are torch's and timm's own norms, to the bit; names of weights are theirs everywhere.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssl_zoo.distributed import gather, world


class BatchNorm(nn.modules.batchnorm._BatchNorm):
    """What a batch norm does while it trains in several processes. It is inherited before torch's class.

    Raises:
        ValueError: `forward` in training, where a channel has no value, or one alone, which is its own mean.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        if input.numel() * world() <= input.shape[1]:
            given = "one row whose feature map is one cell" if input.numel() else "no row at all"
            raise ValueError(
                f"batch norm needs more than one value a channel to train, and here is {given} "
                f"{tuple(input.shape)}: take batch_size of at least 2 (for each of the parts it is "
                "accumulated from), larger images, or a backbone without batch norm (any ViT)"
            )
        if world() == 1:
            return super().forward(input)
        y = self.over_all(input)
        for key in ("drop", "act"):  # timm's BatchNormAct2d
            if (then := getattr(self, key, None)) is not None:
                y = then(y)
        return y

    def over_all(self, x: Tensor) -> Tensor:
        """x (N, C, ...) normalised by the statistics of all processes; updates the running ones."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        axes = [axis for axis in range(x.dim()) if axis != 1]
        var, mean = torch.var_mean(wide, axes, correction=0)  # (C,) each
        own = torch.stack([mean, var, torch.full_like(mean, x.numel() // x.shape[1])])
        means, variances, counts = gather(own[None]).unbind(1)  # (processes, C) each
        n = counts.sum(0)
        mean = (means * counts).sum(0) / n
        var = ((variances + (means - mean).square()) * counts).sum(0) / n
        if self.track_running_stats:
            self._remember(mean.detach(), var.detach() * (n / (n - 1)))
        scale = (var + self.eps).rsqrt()
        if self.weight is not None:
            scale = scale * self.weight
        shift = -mean * scale
        if self.bias is not None:
            shift = shift + self.bias
        shape = (1, -1, *[1] * (x.dim() - 2))
        return (wide * scale.view(shape) + shift.view(shape)).to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, var: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        # Without a momentum, all batches count alike.
        rate = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
        self.running_mean += (mean.to(self.running_mean.dtype) - self.running_mean) * rate
        self.running_var += (var.to(self.running_var.dtype) - self.running_var) * rate


class BatchNorm1d(BatchNorm, nn.BatchNorm1d):
    pass


class BatchNorm2d(BatchNorm, nn.BatchNorm2d):
    pass


class BatchNorm3d(BatchNorm, nn.BatchNorm3d):
    pass


OVER_ALL: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: BatchNorm1d,
    nn.BatchNorm2d: BatchNorm2d,
    nn.BatchNorm3d: BatchNorm3d,
}


def over_all_processes(model: nn.Module) -> None:
    """Make the batch norms of a model, torch's and timm's, those of this file, in place."""
    for module in model.modules():
        module.__class__ = OVER_ALL.get(type(module), type(module))
