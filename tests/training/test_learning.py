"""The model learns: these tests would have caught a loss applied to probabilities instead of logits."""

import math

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins import MixedPrecision
from torch.utils.data import DataLoader

from plant_pathology.competition.metrics import metric_of
from plant_pathology.competition.task import Task
from plant_pathology.inference.outputs import outputs
from plant_pathology.inference.tta import views
from plant_pathology.runs.finished import DivergedError
from plant_pathology.training.classifier import NOTHING_MIXED, Classifier
from plant_pathology.training.loss import FITTING, LOSSES, training_loss
from plant_pathology.training.mixing import Mixing
from plant_pathology.training.network import create_network
from support.commands import config

TASKS = {
    "several": Task("several", metric_of("sample_f1"), 4),
    "one": Task("one", metric_of("accuracy"), 4),
    "number": Task("number", metric_of("rmse"), 1),
}


def classifier(kind="several", mixing=NOTHING_MIXED, **changed):
    scale = {"mean": 1.5, "std": 1.1} if kind == "number" else None
    settings = config("model=test_resnet", "model.weight_decay=0").model
    settings.update(changed)
    network = create_network(settings, TASKS[kind].outputs, [32])
    return Classifier(network.module, TASKS[kind], scale, settings, mixing)


def batches(count=12, kind="several"):
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(count) % 4
    if kind == "several":
        targets = torch.nn.functional.one_hot(targets).float()
        targets[::3, 0] = 1
    if kind == "number":
        targets = targets.float()
    images = torch.rand(count, 3, 32, 32, generator=generator)
    return DataLoader([{"images": images, "targets": targets, "rows": torch.arange(count)}], batch_size=None)


def trainer(epochs, precision="32-true", **more):
    return pl.Trainer(
        max_epochs=epochs,
        **(more or {"precision": precision}),
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        accelerator="cpu",
    )


@pytest.mark.parametrize("kind", TASKS)
def test_it_overfits_a_dozen_images(kind):
    pl.seed_everything(0, verbose=False)
    data = batches(kind=kind)
    model = classifier(kind, lr=5e-3)
    trainer(60).fit(model, data, data)
    score = TASKS[kind].plain_score(*model.validation_results())
    assert score < 0.3 if kind == "number" else score == 1.0


@pytest.mark.parametrize("machine", ["cpu", "cpu-bf16"])
def test_it_trains_in_each_machine_s_precision(machine):
    model = classifier()
    before = model.network.get_classifier().weight.clone()
    trainer(1, config(f"machine={machine}").trainer.precision).fit(model, batches(), batches())
    assert not torch.equal(model.network.get_classifier().weight, before)


def half_precision(factor):
    """Return 16-mixed on the CPU, with real scaling of gradients; a factor of infinity skips every step."""
    scaler = torch.amp.GradScaler("cpu", init_scale=factor)
    return trainer(2, plugins=[MixedPrecision("16-mixed", "cpu", scaler=scaler)])


def test_steps_that_half_precision_skips_without_a_word_fail_the_run():
    data = DataLoader(batches().dataset * 3, batch_size=None)
    model = classifier()
    half_precision(2.0**10).fit(model, data, batches())
    with pytest.raises(DivergedError, match="in epoch 2: 3 of 3 steps were skipped, .*precision=32-true, not 16-mixed"):
        half_precision(math.inf).fit(classifier(), data, batches())
    data = DataLoader(batches().dataset * 20, batch_size=None)
    with pytest.raises(DivergedError, match="in epoch 1: 20 of 20 steps were skipped"):
        half_precision(math.inf).fit(classifier(), data, batches())


def test_tta_yields_the_image_first_then_distinct_symmetric_copies():
    images = torch.rand(2, 3, 5, 5)
    for count in (1, 2, 4, 8):
        seen = list(views(images, count))
        assert torch.equal(seen[0], images) and len({view.numpy().tobytes() for view in seen}) == len(seen) == count
        assert all(torch.equal(view[0].flatten(1).sort().values, images[0].flatten(1).sort().values) for view in seen)
    # The eight symmetries are a group: a rotated image has the same eight copies.
    group, again = ({view.numpy().tobytes() for view in views(each, 8)} for each in (images, images.rot90(1, (-2, -1))))
    assert group == again


def test_the_network_returns_logits_and_the_sigmoid_is_applied_once():
    model = classifier()
    logits = torch.tensor([[-6.0, 0.0, 6.0, 2.0]])
    torch.testing.assert_close(outputs(logits, "several", None), torch.sigmoid(logits))
    torch.testing.assert_close(outputs(logits, "one", None).sum(), torch.tensor(1.0))
    assert outputs(torch.tensor([[2.0]]), "number", {"mean": 10.0, "std": 3.0}).item() == 16.0
    assert model(torch.rand(2, 3, 32, 32)).min() < 0, "forward gives logits, not probabilities"


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_as_exact_for_logits_of_16_bits_as_for_the_same_logits_of_32(name):
    logits = (6 * torch.randn(64, 6, generator=torch.Generator().manual_seed(0))).bfloat16()
    targets = torch.rand(64, 6, generator=torch.Generator().manual_seed(1)).round()
    if name in ("cross_entropy", "focal_exclusive"):
        targets = targets.argmax(dim=1)
    with torch.autocast("cpu", torch.bfloat16):
        short, long = training_loss(logits, targets, name), training_loss(logits.float(), targets, name)
    assert short.dtype == torch.float32 and torch.equal(short, long)


def test_with_a_double_sigmoid_the_loss_of_right_predictions_stays_high():
    targets = torch.tensor([[1.0, 0.0, 0.0, 1.0]])
    logits = 20 * (targets - 0.5)
    right, double = (training_loss(logits, targets, "binary_cross_entropy", twice) for twice in (False, True))
    assert right < 0.01 and double > 0.5


def test_with_layer_decay_learning_rates_fall_from_head_to_input():
    model = classifier(lr=0.1, layer_decay=0.5)
    trainer(2).fit(model, batches(), batches())
    rates = {}
    for group in model.trainer.optimizers[0].param_groups:
        for parameter in group["params"]:
            rates[parameter] = group["max_lr"]
    assert rates[model.network.get_classifier().weight] == 0.1
    assert rates[model.network.conv1[0].weight] < 0.1 / 2**3
    assert set(rates) == set(model.network.parameters())


def test_the_schedule_is_per_step_with_warm_up_or_per_epoch_without():
    for schedule, first in (("step", 1e-3 / 25), ("epoch", 1e-3)):
        model = classifier(schedule=schedule)
        trainer(2).fit(model, batches(), batches())
        [config] = model.trainer.lr_scheduler_configs
        assert config.interval == schedule
        assert model.trainer.optimizers[0].param_groups[0]["initial_lr"] == first


def test_training_steps_never_wait_for_the_gpu(monkeypatch):
    """A GPU works asynchronously until Python reads a number from it."""
    asked = []
    for name in ("item", "tolist", "__bool__", "__float__", "__int__"):
        ask = getattr(torch.Tensor, name)
        monkeypatch.setattr(torch.Tensor, name, lambda self, ask=ask: asked.append(ask) or ask(self))
    counts = []
    for steps in (2, 6):
        asked.clear()
        trainer(1).fit(classifier(), DataLoader(batches().dataset * steps, batch_size=None), batches())
        counts.append(len(asked))
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("kind, loss", [(kind, loss) for kind in TASKS for loss in FITTING[kind]])
def test_every_loss_is_small_for_right_outputs_and_finite_with_mixed_images(kind, loss):
    model = classifier(kind, Mixing(0.5, 0.5), loss=loss, smoothing=0 if kind == "number" else 0.1)
    targets = next(iter(batches(kind=kind)))["targets"]
    if kind == "number":
        right, wrong = ((targets + off - 1.5)[:, None] / 1.1 for off in (0, 2))
    else:
        rows = targets if kind == "several" else torch.eye(4)[targets]
        right, wrong = (sign * 8 * (rows - 0.5) for sign in (1, -1))
    assert model._loss(right, targets) < model._loss(wrong, targets) / 4
    trainer(2).fit(model, batches(kind=kind), batches(kind=kind))


def test_mixed_targets_are_shares_of_the_two_pictures():
    images = torch.stack([torch.zeros(3, 8, 8), torch.ones(3, 8, 8)])
    for mixing in Mixing(1, 0), Mixing(0, 1):
        for targets in torch.eye(2), torch.arange(2), torch.tensor([0.0, 1.0]):
            mixed, shares = mixing(images, targets, 2)
            ones = mixed.mean(dim=(1, 2, 3))
            torch.testing.assert_close(shares if shares.ndim == 1 else shares[:, 1], ones)
            assert shares.ndim == 1 or torch.allclose(shares.sum(dim=1), torch.ones(2))


def test_while_the_rest_is_frozen_the_head_alone_changes():
    model = classifier(freeze=1)
    before = {name: weights.clone() for name, weights in model.network.state_dict().items()}
    trainer(1).fit(model, batches(), batches())
    changed = {name for name, weights in model.network.state_dict().items() if not torch.equal(weights, before[name])}
    assert changed == {"fc.weight", "fc.bias"}
    model = classifier(freeze=1)
    before = {name: weights.clone() for name, weights in model.network.state_dict().items()}
    trainer(4).fit(model, batches(), batches())
    assert not torch.equal(model.network.state_dict()["conv1.0.weight"], before["conv1.0.weight"])


def test_a_warm_up_of_a_single_step_does_not_fail():
    trainer(10).fit(classifier(warmup=0.1), batches(), batches())
