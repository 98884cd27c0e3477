"""Train a timm network with Lightning: loss on logits, learning rate by step, the competition's metric by epoch."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytorch_lightning as pl
import timm
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR
from torchmetrics import MeanMetric

from plant_pathology.competition.task import KEPT, Task
from plant_pathology.core.errors import UserError
from plant_pathology.data.predictions import likeliest_alone
from plant_pathology.inference import tta
from plant_pathology.inference.decision import THRESHOLDS
from plant_pathology.inference.outputs import outputs
from plant_pathology.runs.finished import DivergedError
from plant_pathology.training.device import ONLY, Device
from plant_pathology.training.distillation import distilled
from plant_pathology.training.loss import loss_name, smoothed, training_loss
from plant_pathology.training.mixing import Mixing

HALVINGS = 16  # of torch's first factor for gradients in half precision, 65536, until it is 1
NOTHING_MIXED = Mixing(mixup=0, cutmix=0)


class Classifier(pl.LightningModule):
    """Map images in [0, 1] to logits.

    Args:
        network: of timm, from network.py.
        task: what is predicted and how it is scored.
        scale: mean and std of the training numbers; None for labels.
        settings: `model:` of the config. Of layer_decay: Clark et al. 2020, ELECTRA; Bao et al. 2021, BEiT.
        mixing: mixes the images of training batches.
        on: the device that trains, of those of the run.

    Raises:
        UserError: the loss does not fit the task.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        task: Task,
        scale: dict[str, float] | None,
        settings: Mapping[str, Any],
        mixing: Mixing = NOTHING_MIXED,
        on: Device = ONLY,
    ):
        super().__init__()
        self.task, self.scale, self.settings, self.mixing, self.on = task, scale, settings, mixing, on
        self.loss = loss_name(task, settings["loss"], settings["smoothing"])
        self.network = network
        data = timm.data.resolve_model_data_config(self.network)
        self.normalization = {"mean": list(data["mean"]), "std": list(data["std"])}
        for key, value in self.normalization.items():
            self.register_buffer(key, torch.tensor(value).view(3, 1, 1), persistent=False)
        # Saved in checkpoints, so that a run that continues in the middle of an epoch knows the earlier losses. Each
        # device has those of all: the checkpoint is the first one's.
        self.train_loss = MeanMetric(nan_strategy="disable", sync_on_compute=False)
        self.train_loss.persistent(True)
        self.validated: list[tuple[Tensor, ...]] = []
        self.views = 1  # of test-time augmentation in validation
        self.scored = True  # False where the validation images are training images: they say nothing

    def forward(self, images: Tensor) -> Tensor:
        """Return (n, outputs) logits of (n, 3, side, side) images in [0, 1]."""
        return self.network(((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last))

    def on_train_start(self) -> None:
        # Lightning does not call on_train_epoch_start for an epoch that is continued in the middle.
        self._steps_before = (self.trainer.global_step, self._steps_taken())

    def on_train_epoch_start(self) -> None:
        self._steps_before = (self.trainer.global_step, self._steps_taken())
        # Lightning resets it too, but only after the checkpoint of the previous epoch was saved.
        self.train_loss.reset()

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        targets = batch["targets"]
        if share := self.settings["distill"]:
            targets = distilled(targets, batch["teacher"], share, self.task.kind)
        images, targets = self.mixing(batch["images"], targets, self.task.outputs)
        targets = smoothed(targets, self.settings["smoothing"], self.task.kind, self.task.outputs)
        loss = self._loss(self(images), targets)
        self.train_loss.update(self.on.mean(loss.detach()))
        self.log("train_loss", self.train_loss, on_step=False, on_epoch=True)
        return loss

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if self.settings["freeze"]:
            self._freeze(self.current_epoch < self.settings["freeze"])

    def _freeze(self, frozen: bool) -> None:
        """Train the head alone, with running means as they are, or train all."""
        # A parameter without gradient is left as it is by the optimizer, which decays no weight of it either.
        for parameter in self.network.parameters():
            parameter.requires_grad = not frozen
        self.network.train(not frozen)
        heads: Any = self.network.get_classifier()  # type: ignore[operator]  # of every network of timm
        for head in heads if isinstance(heads, tuple | list) else (heads,):
            head.requires_grad_(True).train()

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        logits = [self(images) for images in tta.views(batch["images"], self.views)]
        images = (batch["rows"] >= 0).sum()  # none where they are another device's, too
        self.val_loss += torch.stack([self._loss(logits[0], batch["targets"]).float() * images, images])
        first, *others = (outputs(each, self.task.kind, self.scale) for each in logits)
        mean = sum(others, start=first) / len(logits)
        kept = mean.topk(KEPT) if self.task.sparse else (mean,)
        self.validated.append((batch["rows"], batch["targets"], *kept))

    def on_validation_epoch_start(self) -> None:
        self.validated.clear()
        self.val_loss = torch.zeros(2, device=self.device)  # sum over images, and their number

    def on_validation_epoch_end(self) -> None:
        self.validated = [self._of_all_devices()]
        if self.scored:
            self._log_score()
        if self.trainer.optimizers:
            # Lightning's LearningRateMonitor logs nothing in an epoch that a run continues in the middle.
            self.log("lr", self.trainer.optimizers[0].param_groups[-1]["lr"])

    def _log_score(self) -> None:
        loss, images = self.on.mean(self.val_loss)
        self.log("val_loss", loss / images)
        predicted, true = self.validation_results()
        decision = self.task.plain_decision(predicted, true)
        score = self.task.metric.score(true, decision.decide(predicted))
        if not math.isfinite(score):
            raise UserError(
                f"{self.task.metric.name} cannot be computed on the validation images, which are all alike in what it"
                " scores: lower prepare.folds, or choose another data.fold"
            )
        self.log("val_score", self.task.metric.sign * score)
        self.log(f"val_{self.task.metric.name}", score, prog_bar=True)
        if decision.by == THRESHOLDS:
            self.log("val_threshold", float(decision.values[0]))

    def on_train_epoch_end(self) -> None:
        for name in ("train_loss", "val_loss") if self.scored else ("train_loss",):
            self._require_finite(name, self.trainer.callback_metrics[name])
        self._require_steps()

    def _require_steps(self) -> None:
        """Check that most steps of the epoch changed the weights; of an epoch that was continued, those since then.

        In half precision a step is skipped, without a word, where a gradient is not finite. The first ones of a run may
        be: the factor that gradients are multiplied with is halved by each, until they are.

        Raises:
            DivergedError: most were skipped, after the factor is down at 1, or in the last epoch.
        """
        done, taken = self.trainer.global_step, self._steps_taken()
        begun, taken_before = self._steps_before
        skipped, steps = (done - taken) - (begun - taken_before), done - begun
        last = self.trainer.current_epoch + 1 == self.trainer.max_epochs
        if 2 * skipped > steps and (last or done - taken > HALVINGS):
            raise self._diverged(f"{skipped} of {steps} steps were skipped, because gradients were not finite")

    def _steps_taken(self) -> int:
        """Return how many steps the optimizer took: AdamW counts them for each weight, and the head is never frozen."""
        states = self.trainer.optimizers[0].state.values()
        return max((int(state["step"]) for state in states if "step" in state), default=0)

    def require_finite_weights(self) -> None:
        """Check the network's weights and running means.

        Raises:
            DivergedError: one is not finite.
        """
        for name, values in self.network.state_dict().items():
            self._require_finite(f"the network's {name}", values)

    def _require_finite(self, name: str, values: Tensor) -> None:
        if not torch.isfinite(values).all():
            raise self._diverged(f"{name} is not finite")

    def _diverged(self, what: str) -> DivergedError:
        clip, precision = self.trainer.gradient_clip_val, self.trainer.precision
        ways = [
            f"lower model.lr={self.settings['lr']:g}",
            f"lower trainer.gradient_clip_val={clip:g}" if clip else "set trainer.gradient_clip_val=1",
            *([f"set trainer.precision=32-true, not {precision}"] if precision != "32-true" else []),
        ]
        return DivergedError(f"diverged in epoch {self.trainer.current_epoch + 1}: {what}: {', or '.join(ways)}")

    def _of_all_devices(self) -> tuple[Tensor, ...]:
        """Return rows, targets and outputs of the validation on all devices, each row once, in the data's order.

        Raises:
            DivergedError: an output is not finite.
        """
        rows, *parts = (self.on.gathered(torch.cat(parts)) for parts in zip(*self.validated, strict=True))
        order = rows.argsort()[(rows < 0).sum() :]  # -1 for one that another device has, too
        self._require_finite("a prediction", parts[1])
        return rows[order], *(part[order] for part in parts)

    def validation_results(self) -> tuple[Any, np.ndarray]:
        """Return the last validation's outputs, as `Predictions` holds them, and its targets, in the data's order."""
        _, targets, *kept = (part.cpu().numpy() for part in self.validated[0])
        if self.task.sparse:
            values, classes = kept
            return likeliest_alone(values, classes, self.task.outputs), targets
        return kept[0], targets.astype(bool) if targets.ndim == 2 else targets

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW; one-cycle learning rate per step (warm-up, then cosine), or cosine per epoch."""
        groups = self._parameter_groups()
        # With a fused optimizer in mixed precision Lightning refuses to clip gradients: it may unscale them itself.
        fused = self.device.type == "cpu" and self.trainer.precision == "32-true"
        optimizer = torch.optim.AdamW(groups, lr=self.settings["lr"], fused=fused)
        if self.settings["schedule"] == "epoch":
            cosine = CosineAnnealingLR(optimizer, self.trainer.max_epochs or 1)
            return {"optimizer": optimizer, "lr_scheduler": cosine}
        steps = int(self.trainer.estimated_stepping_batches)
        one_cycle = OneCycleLR(
            optimizer,
            max_lr=[self.settings["lr"] * group.get("lr_scale", 1.0) for group in groups],
            total_steps=steps,
            # torch divides by the warm-up's steps minus one: with a single step it would divide by zero.
            pct_start=float(self.settings["warmup"]) if self.settings["warmup"] * steps > 1 else 0.0,
            cycle_momentum=False,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": one_cycle, "interval": "step"}}

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """Group parameters by weight decay and layer, from the input to the head: a layer has one learning rate."""
        if self.settings["layer_decay"] == 1:
            return param_groups_weight_decay(self.network, self.settings["weight_decay"])
        return param_groups_layer_decay(
            self.network, self.settings["weight_decay"], layer_decay=self.settings["layer_decay"]
        )

    def _loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        if self.scale is not None:
            logits, targets = logits[:, 0], (targets - self.scale["mean"]) / self.scale["std"]
        return training_loss(logits, targets, self.loss, self.settings["double_sigmoid"])
