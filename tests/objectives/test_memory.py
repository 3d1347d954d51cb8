"""What objectives remember: teachers and queues against plain Python, heads of several forms."""

import copy

import pytest
import torch
from torch import nn
from zoo_backbones import backbone, build

from ssl_zoo.data.rows import DataError, refuse_lacking
from ssl_zoo.heads import mlp
from ssl_zoo.memory import Centre, Memory, Queue
from ssl_zoo.norm import BatchNorm1d
from ssl_zoo.objectives.simclr import SimCLR
from ssl_zoo.teacher import Teacher


class Counted(nn.Module):
    """A weight, a batch norm, dropout and a buffer."""

    def __init__(self):
        super().__init__()
        self.linear, self.norm, self.drop = nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.5)
        self.register_buffer("seen", torch.zeros(2))

    def forward(self, x):
        return self.drop(self.norm(self.linear(x)))


def test_a_teacher_follows_as_written():
    torch.manual_seed(0)
    student, shared = Counted(), nn.Linear(3, 2)
    teacher = Teacher(student, nn.Sequential(shared), shared)
    first, second, third = teacher
    assert second[0] is third
    assert third is not shared
    assert not any(p.requires_grad for p in teacher.parameters())
    before = [p.clone() for p in teacher.parameters()]
    with torch.no_grad():
        for p in [*student.parameters(), *shared.parameters()]:
            p.add_(torch.randn_like(p))
    student.seen += 1
    student.norm.running_mean += 1
    teacher.update(0.75)
    now = [*student.parameters(), *shared.parameters()]
    for old, new, kept in zip(before, now, teacher.parameters(), strict=True):
        torch.testing.assert_close(kept, 0.75 * old + 0.25 * new.detach())
    assert first.seen.tolist() == [1, 1]
    assert first.norm.running_mean.tolist() == [0, 0, 0]  # gathered by its own passes
    teacher.update(1.0)
    assert list(teacher.state_dict()) == [
        *(f"0.{k}" for k in student.state_dict()),
        *(f"{i}{j}.{k}" for i, j in ((1, ".0"), (2, "")) for k in shared.state_dict()),
    ]


def test_a_teacher_normalises_with_the_batch_and_drops_nothing():
    teacher = Teacher(Counted())
    (copied,) = teacher
    x = torch.randn(8, 3)
    teacher.train()
    assert torch.equal(copied(x), copied(x))  # no dropout
    torch.testing.assert_close(copied(x).mean(0), torch.zeros(3), rtol=0, atol=1e-6)
    assert copied.norm.num_batches_tracked == 3
    teacher.eval()
    copied(x)
    assert copied.norm.num_batches_tracked == 3
    nn.Sequential(teacher).train()  # as the objective that holds it does
    assert copied.norm.training
    assert not copied.drop.training


def test_a_copy_of_teacher_and_student_follows_the_copy():
    holder = nn.Module()
    holder.student = nn.Linear(2, 2)
    holder.teacher = Teacher(holder.student)
    twin = copy.deepcopy(holder)
    with torch.no_grad():
        twin.student.weight.fill_(3)
    twin.teacher.update(0.0)
    assert twin.teacher[0].weight.tolist() == [[3, 3], [3, 3]]
    assert holder.teacher[0].weight.tolist() != [[3, 3], [3, 3]]


@pytest.mark.parametrize(("size", "parts"), [(5, [2, 2]), (4, [2, 2]), (3, [5]), (6, [2]), (2, [3, 4])])
def test_a_queue_is_the_last_rows_in_their_order(size, parts):
    queue = Queue(size, 1)
    everything, number = [], 0.0
    for _ in range(7):
        for count in parts:  # accumulated parts of one step
            rows = torch.arange(count, dtype=torch.float32)[:, None] + number
            queue.stash(rows.requires_grad_())
            everything += rows.flatten().tolist()
            number += count
        before = queue.rows.clone()
        queue.eval()
        queue.stash(torch.full((1, 1), -1.0))  # evaluation notes nothing
        queue.train()
        assert torch.equal(queue.rows, before)
        queue.flush()
        queue.flush()  # nothing is left to write
        assert sorted(queue.rows[queue.valid()].flatten().tolist()) == everything[-size:]
        assert queue.filled == min(len(everything), size)
        oldest = torch.roll(queue.rows.flatten(), -int(queue.at)) if queue.filled == size else queue.rows
        assert oldest.flatten()[: len(everything)].tolist() == everything[-size:]
    again = Queue(size, 1)
    again.load_state_dict(queue.state_dict())
    assert again.filled == queue.filled
    assert set(queue.state_dict()) == {"rows", "at", "filled"}


def test_a_queue_holds_something():
    with pytest.raises(ValueError, match="at least one row"):
        Queue(0, 2)


def test_a_memory_holds_the_latest_row_of_each_sample():
    torch.manual_seed(0)
    memory, want = Memory(7, 2, 3), {}
    for _ in range(4):
        numbers = torch.randperm(7)[:4]
        rows = torch.randn(4, 2, 3, requires_grad=True)
        for part, index in zip(rows.chunk(2), numbers.chunk(2), strict=True):  # accumulated
            memory.stash(index, part)
        memory.eval()
        memory.stash(numbers, torch.full((4, 2, 3), 9.0))  # evaluation notes nothing
        memory.train()
        memory.flush()
        memory.flush()  # nothing is left to write
        want |= dict(zip(numbers.tolist(), rows.detach(), strict=True))
        for number in range(7):
            assert memory.filled[number] == (number in want)
            assert torch.equal(memory.rows[number], want.get(number, torch.zeros(2, 3)))
    assert set(memory.state_dict()) == {"rows", "filled"}


def test_a_memory_that_does_not_fit_the_data_is_refused():
    with pytest.raises(ValueError, match="holds at least one, not 0"):
        Memory(0, 2)
    for wrong in (-1, 7):
        with pytest.raises(ValueError, match=f"number {wrong}, and the objective remembers 7 rows"):
            Memory(7, 2).stash(torch.tensor([3, wrong]), torch.zeros(2, 2))
    holder = build(SimCLR, backbone("vit"))
    holder.kept = Memory(7, 2)
    with pytest.raises(DataError, match=r"remembers 7 rows, and the data has 9: set objective.rows=9"):
        refuse_lacking(holder, range(9))
    refuse_lacking(holder, range(7))


def test_heads_are_built_as_asked():
    kinds = lambda head: [type(layer).__name__ for layer in head]  # noqa: E731
    assert kinds(mlp(2, 3)) == ["Linear"]
    assert kinds(mlp(2, 3, 4)) == ["Linear", "ReLU", "Linear"]
    assert kinds(mlp(2, 3, 4, act="gelu", norm="layer")) == ["Linear", "LayerNorm", "GELU", "Linear"]
    normed = mlp(2, 3, 4, 5, norm="batch", last="plain_batch")
    assert kinds(normed) == [*["Linear", "BatchNorm1d", "ReLU"] * 2, "Linear", "BatchNorm1d"]
    assert all(isinstance(layer, BatchNorm1d) for layer in normed if "Norm" in type(layer).__name__)
    assert [layer.bias is not None for layer in normed if isinstance(layer, nn.Linear)] == [False] * 3
    assert normed[-1].weight is None
    assert mlp(2, 3, norm="batch", last="batch")[-1].weight is not None
    assert mlp(2, 3, 4, norm="batch")[-1].bias is not None


def test_a_centre_is_the_running_mean():
    torch.manual_seed(0)
    centre, want = Centre(3, momentum=0.8), torch.zeros(3)
    for _ in range(3):
        rows = torch.randn(8, 3, requires_grad=True)
        for part in rows.chunk(2):  # accumulated
            centre.stash(part)
        centre.eval()
        centre.stash(torch.full((4, 3), 9.0))  # evaluation notes nothing
        centre.train()
        torch.testing.assert_close(centre.value, want)
        centre.flush()
        centre.flush()  # nothing is left to note
        want = 0.8 * want + 0.2 * rows.detach().mean(0)
        torch.testing.assert_close(centre.value, want)
    assert set(centre.state_dict()) == {"value"}
    with pytest.raises(ValueError, match="momentum"):
        Centre(3, momentum=1.0)


@pytest.mark.parametrize("momentum", [-0.1, 1.5, float("nan")])
def test_a_momentum_that_is_no_share_is_refused(momentum):
    student = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match="from 0 to 1, not"):
        Teacher(student).update(momentum)
