"""Distillation from a trained backbone against slow second implementations, and from runs to runs.

Reference (feature_distillation): own second implementation, row by row, from the equations.
Peers (feature_distillation): no code was compared; Wei et al. standardise each token over its features, where
each feature is standardised over images here.
Reference (similarity_distillation): own second implementation over four steps, from SEED's equations.
Peers (similarity_distillation): the authors' code has their loss, and starts with random directions in the
queue, where this one starts empty: the loss of the first step is 0 here, and about ln(1 + K) there.
"""

import math
import shutil

import pytest
import tiny
import torch
from omegaconf.errors import MissingMandatoryValue
from torch.autograd import grad
from zoo_backbones import backbone, build, images

import ssl_zoo
from ssl_zoo import hub
from ssl_zoo.compose import composition
from ssl_zoo.compose.objective import build_objective
from ssl_zoo.noise import seed_noise
from ssl_zoo.objectives.feature_distillation import FeatureDistillation, regression
from ssl_zoo.objectives.similarity_distillation import SimilarityDistillation, divergence
from ssl_zoo.teacher import Frozen

BOTH = (FeatureDistillation, SimilarityDistillation)


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def unit(v):
    return [x / math.sqrt(dot(v, v)) for x in v]


@pytest.mark.parametrize("distance", ["cosine", "smooth_l1"])
def test_regression_row_by_row(distance):
    drawn, target = 3 * torch.randn(2, 5, 4, dtype=torch.float64)
    loss, cosine = regression(drawn, target, distance)
    rows = list(zip(drawn.tolist(), target.tolist(), strict=True))
    same = [dot(unit(a), unit(b)) for a, b in rows]
    errors = [abs(x - y) for a, b in rows for x, y in zip(a, b, strict=True)]
    assert min(errors) < 2 < max(errors)
    bent = [e * e / 4 if e < 2 else e - 1 for e in errors]  # equation 2, with beta 2
    want = 1 - sum(same) / 5 if distance == "cosine" else sum(bent) / 20
    assert loss.item() == pytest.approx(want, rel=1e-12)
    assert cosine.item() == pytest.approx(sum(same) / 5, rel=1e-12)
    assert regression(target, target, distance)[0].item() == pytest.approx(0, abs=1e-12)


def standardised(t):
    return (t - t.mean(0)) / (t.var(0, correction=0) + 1e-5).sqrt()


def close(value, want, objective):
    torch.testing.assert_close(value, want, rtol=1e-4, atol=1e-5)
    weights = [w for w in objective.parameters() if w.requires_grad]
    for a, b in zip(grad(value, weights), grad(want, weights), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("distance", ["cosine", "smooth_l1"])
@pytest.mark.parametrize(("student", "teacher"), [("vit", "cnn"), ("cnn", "vit")])
def test_feature_distillation_is_its_equation(student, teacher, distance):
    guide = backbone(teacher, 2)
    objective = build(FeatureDistillation, backbone(student), teacher=guide, distance=distance).train()
    batch = images()
    seed_noise(0, 0)
    value = objective(batch).value
    seed_noise(0, 0)
    x = objective.view(batch.x)
    target = standardised(guide(x).pooled)
    (layer,) = objective.project
    drawn = objective.backbone(x).pooled @ layer.weight.T + layer.bias
    if distance == "cosine":
        want = sum(1 - a @ b / (a.norm() * b.norm()) for a, b in zip(drawn, target, strict=True)) / 4
    else:
        e = (drawn - target).abs()
        want = sum((one * one / 4 if one < 2 else one - 1) for one in e.flatten()) / e.numel()
    close(value, want, objective)


def test_seed_is_its_equation_over_several_steps():
    guide = backbone("vit", 2)
    options = {"teacher": guide, "temperature": 0.3, "teacher_temperature": 0.1}
    objective = build(SimilarityDistillation, backbone("cnn"), **options).train()
    batch, earlier = images(), []
    for step in range(4):
        seed_noise(0, step)
        loss = objective(batch)
        seed_noise(0, step)
        x = objective.view(batch.x)
        t = torch.nn.functional.normalize(standardised(guide(x).pooled))
        z = torch.nn.functional.normalize(objective.project(objective.backbone(x).pooled))
        want, entropy = torch.zeros(()), 0.0
        for a, b in zip(z, t, strict=True):
            others = [b, *earlier[-10:]]
            odds = [math.exp((b @ d).item() / 0.1) for d in others]
            p = [one / sum(odds) for one in odds]
            scores = torch.stack([a @ d / 0.3 for d in others])
            want = (
                want - sum(share * (s - scores.logsumexp(0)) for share, s in zip(p, scores, strict=True)) / 4
            )
            entropy -= sum(share * math.log(share) for share in p if share) / 4
        if step:
            close(loss.value, want, objective)
        else:
            assert loss.value.item() == 0  # nothing but the image itself to choose
        assert loss.parts["teacher_entropy"].item() == pytest.approx(entropy, rel=1e-4, abs=1e-6)
        earlier += [*t]
        objective.advance((step + 1) / 4)
        assert objective.queue.filled.item() == min(len(earlier), 10)


def test_directions_of_a_bfloat16_step_are_exact():
    """As if there were no autocast behind the head: directions in bfloat16 are wrong by some thousandths."""
    objective = build(SimilarityDistillation, backbone("cnn"), teacher=backbone("vit", 2)).train()
    seen = []
    for module in (objective.project, objective.standardise):
        module.register_forward_hook(lambda *found: seen.append(found[-1].detach().double()))
    for step in range(2):
        seed_noise(0, step)
        with torch.autocast("cpu", torch.bfloat16):
            value = objective(images()).value
        z, t = (torch.nn.functional.normalize(rows) for rows in seen[-2:])
        queue, valid = objective.queue.rows.double(), objective.queue.valid()
        want, _ = divergence(z, t, queue, valid, objective.temperature, objective.teacher_temperature)
        torch.testing.assert_close(value.double(), want, rtol=1e-5, atol=1e-6)
        objective.advance((step + 1) / 2)
    assert value.dtype == torch.float32
    assert value > 0


def test_divergence_where_nothing_is_learned():
    """Equal scores are ln of how many there are, whatever the empty places of the queue hold."""
    z, queue = torch.eye(8)[:3], torch.full((5, 8), torch.nan)
    queue[:4] = torch.eye(8)[4:]
    loss, entropy = divergence(
        torch.ones(3, 8) / 8**0.5, z, queue.nan_to_num(9.0), torch.arange(5) < 4, 0.2, 1e9
    )
    assert loss.item() == pytest.approx(math.log(5), rel=1e-6)
    assert entropy.item() == pytest.approx(math.log(5), rel=1e-6)


@pytest.mark.parametrize("cls", BOTH)
def test_the_teacher_is_read_as_it_is_and_never_learns(cls):
    guide = backbone("cnn", 2).train()
    objective = build(cls, backbone("vit"), teacher=guide).train()
    before = {name: value.clone() for name, value in guide.state_dict().items()}
    objective(images()).value.backward()
    assert all(torch.equal(value, before[name]) for name, value in guide.state_dict().items())
    assert not any(module.training for module in guide.modules())
    assert [name for name in objective.state_dict() if "teacher" in name] == ["teacher._extra_state"]
    assert not any("teacher" in name for name, _ in objective.named_parameters())
    assert objective.export() == {"backbone": objective.backbone}
    assert {p.dtype for p in (objective.double(), guide)[1].parameters()} == {torch.float64}


def test_a_checkpoint_knows_its_teacher():
    one, same, other = (Frozen(backbone("cnn", seed)) for seed in (2, 2, 3))
    same.load_state_dict(one.state_dict())
    with pytest.raises(ValueError, match="the teacher is another one than that of the run so far"):
        other.load_state_dict(one.state_dict())


def test_a_teacher_of_larger_images_reads_larger_views():
    seen = []
    guide = backbone("vit", 2, image_size=64)
    guide.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    objective = build(FeatureDistillation, backbone("cnn"), teacher=guide)
    objective.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    assert objective(images()).value.isfinite()
    assert [tuple(shape[2:]) for shape in seen] == [(32, 32), (64, 64)]
    assert objective.view.size == (64, 64)


def test_a_module_of_anyone_teaches():
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 8, 8), torch.nn.BatchNorm2d(5))
    guide = ssl_zoo.backbone(module, image_size=32)
    objective = build(FeatureDistillation, backbone("vit"), teacher=guide).train()
    objective(images()).value.backward()
    assert objective.project[0].out_features == 5
    assert module[1].num_batches_tracked == 0


@pytest.mark.parametrize("cls", BOTH)
def test_teachers_that_cannot_be_are_refused(cls, tmp_path):
    student = backbone("vit")
    for wrong, said in (
        (student, "the teacher is the student itself"),
        (backbone("bag"), "the teacher reads images, and TokenBag reads texts"),
        (torch.nn.Linear(2, 2), "Linear is no backbone"),
        (tmp_path / "none", r"teacher=.*none: there is no folder .*none"),
        (
            hub.save(backbone("bag"), tmp_path / "text"),
            "TokenBag reads texts: name the folder of a run on images",
        ),
        (backbone("cnn", image_size=(32, 64)), "reads images of 32x64 pixels and the student of 32x32"),
    ):
        with pytest.raises(ValueError, match=said):
            build(cls, student, teacher=wrong)


def test_other_arguments_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="distance='l2' is neither cosine nor smooth_l1"):
        build(FeatureDistillation, backbone("vit"), distance="l2")
    with pytest.raises(ValueError, match=r"temperatures are positive, not 0.2 and 0"):
        build(SimilarityDistillation, backbone("vit"), teacher_temperature=0)


# From a run to a smaller one, by Python and by the command

SHORT = {"data": "digits", "batch_size": 64, "trainer": "cpu", "progress": False}
SMALL = {"backbone": "resnet_micro", "backbone__channels": [8, 8, 16, 16], "backbone__stem_width": 4}


@pytest.fixture(scope="module")
def larger(tmp_path_factory):
    run = {"backbone": "resnet_micro", "backbone__channels": [8, 16, 32, 64], "evaluate_every": 0}
    return ssl_zoo.pretrain(
        "supervised", **run, **SHORT, steps=15, out=tmp_path_factory.mktemp("runs") / "large"
    )


def test_a_run_teaches_a_smaller_one(larger, tmp_path):
    options = {**SHORT, **SMALL, "objective__teacher": larger.path, "validation_limit": 100}
    run = {"objective": "feature_distillation_small", "out": tmp_path / "small", "optimizer__lr": 5e-3}
    done = ssl_zoo.pretrain(**run, **options, steps=25, evaluate_every=25)
    assert done.summary["val/cosine"] > 0.05  # 0 where nothing is learned
    assert done.backbone.dim == 16
    state = torch.load(tmp_path / "small/checkpoints/step-000000000025.ckpt")["state_dict"]
    assert not any(value.shape == (64, 32, 3, 3) for value in state.values())  # none of the teacher's weights
    kept = shutil.copytree(larger.path, tmp_path / "teacher")
    options |= {"objective": "similarity_distillation_small", "objective__teacher": kept, "evaluate_every": 0}
    ssl_zoo.pretrain(**options, steps=1, out=tmp_path / "seed")
    changed = hub.load(kept)
    with torch.no_grad():
        next(changed.parameters()).mul_(2)
    hub.save(changed, kept / "backbone")
    with pytest.raises(ValueError, match="the teacher is another one"):
        ssl_zoo.pretrain(**options, steps=2, out=tmp_path / "seed")


def test_the_command_distils_from_a_run_and_from_another_architecture(larger, tmp_path):
    words = ["objective=feature_distillation_small", "backbone=vit_micro", "data=digits", "budget.steps=1"]
    few = [
        "backbone.depth=1",
        "batch_size=16",
        "evaluate_every=0",
        "trainer=cpu",
        f"run={tmp_path / 'a run'}",
    ]
    teacher = f"objective.teacher={larger.path}"
    code, said = tiny.command(tmp_path, tmp_path, "pretrain", *words, *few, teacher)
    assert code == 0, said
    assert f'next: ssl-zoo evaluate "run={tmp_path / "a run"}" data=' in said
    nested = ["+backbone@objective.teacher=vit_micro", "objective.teacher.embed_dim=64"]
    objective = build_objective(composition.build("pretrain", [*words, *nested]), None)
    assert objective.project[0].weight.shape == (64, 128)
    with pytest.raises(MissingMandatoryValue, match="teacher"):
        build_objective(composition.build("pretrain", words), None)
