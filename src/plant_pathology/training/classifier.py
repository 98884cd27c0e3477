"""Train a timm network with Lightning: loss on logits, learning rate by step, the competition's metric by epoch."""

from typing import Any

import numpy as np
import pytorch_lightning as pl
import timm
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR
from torchmetrics import MeanMetric

from plant_pathology.competition.metrics import best_threshold
from plant_pathology.inference import tta
from plant_pathology.training.loss import classification_loss


class Classifier(pl.LightningModule):
    """Map images in [0, 1] to logits.

    Args:
        name: name of any timm model.
        pretrained: start from timm's weights.
        outputs: number of labels.
        multilabel: True for one sigmoid per label, False for one softmax over all labels.
        lr: peak learning rate: warm-up to it over the share `warmup` of all steps, then cosine decay to zero.
        layer_decay: learning rate of a layer as a share of that of the next layer toward the head, which has the full
            `lr` (Clark et al. 2020, ELECTRA; Bao et al. 2021, BEiT).
        weight_decay: AdamW's weight decay of matrices and kernels; biases and norms have none.
        warmup: share of all steps.
        schedule: "step" as described at `lr`; "epoch" for cosine decay per epoch, without warm-up.
        double_sigmoid: make the mistake that `classification_loss` describes.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        pretrained: bool,
        outputs: int,
        multilabel: bool,
        lr: float,
        layer_decay: float,
        weight_decay: float,
        warmup: float,
        schedule: str,
        double_sigmoid: bool,
    ):
        super().__init__()
        self.save_hyperparameters(logger=False)
        network = timm.create_model(name, pretrained=pretrained, num_classes=outputs)
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stubs
        data = timm.data.resolve_model_data_config(self.network)
        self.normalization = {"mean": list(data["mean"]), "std": list(data["std"])}
        for key, value in self.normalization.items():
            self.register_buffer(key, torch.tensor(value).view(3, 1, 1), persistent=False)
        # Saved in checkpoints, so that a run that continues in the middle of an epoch knows the earlier losses.
        self.train_loss = MeanMetric(nan_strategy="disable")
        self.train_loss.persistent(True)
        self.validated: list[tuple[Tensor, Tensor]] = []
        self.views = 1  # of test-time augmentation in validation

    def forward(self, images: Tensor) -> Tensor:
        """Return (n, outputs) logits of (n, 3, side, side) images in [0, 1]."""
        return self.network(((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last))

    def on_train_epoch_start(self) -> None:
        # Lightning resets it too, but only after the checkpoint of the previous epoch was saved.
        self.train_loss.reset()

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss = self._loss(self(batch["images"]), batch["targets"])
        self.train_loss.update(loss.detach())
        self.log("train_loss", self.train_loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        logits = [self(images) for images in tta.views(batch["images"], self.views)]
        self.log("val_loss", self._loss(logits[0], batch["targets"]), batch_size=len(batch["targets"]))
        first, *others = map(self.probabilities, logits)
        self.validated.append((sum(others, start=first) / len(logits), batch["targets"]))

    def on_validation_epoch_start(self) -> None:
        self.validated.clear()

    def on_validation_epoch_end(self) -> None:
        threshold, f1 = best_threshold(*self.validation_results(), multilabel=self.hparams["multilabel"])
        self.log("val_f1", f1, prog_bar=True)
        self.log("val_threshold", threshold)
        if self.trainer.optimizers:
            # Lightning's LearningRateMonitor logs nothing in an epoch that a run continues in the middle.
            self.log("lr", self.trainer.optimizers[0].param_groups[-1]["lr"])

    def validation_results(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the last validation's (n, outputs) probabilities and (n, outputs) targets, in the data's order."""
        probabilities, targets = (torch.cat(parts).float().cpu().numpy() for parts in zip(*self.validated, strict=True))
        return probabilities, targets

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.float().sigmoid() if self.hparams["multilabel"] else logits.float().softmax(dim=1)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW; one-cycle learning rate per step (warm-up, then cosine), or cosine per epoch."""
        groups = self._parameter_groups()
        # With a fused optimizer in mixed precision Lightning refuses to clip gradients: it may unscale them itself.
        fused = self.device.type == "cpu" and self.trainer.precision == "32-true"
        optimizer = torch.optim.AdamW(groups, lr=self.hparams["lr"], fused=fused)
        if self.hparams["schedule"] == "epoch":
            cosine = CosineAnnealingLR(optimizer, self.trainer.max_epochs or 1)
            return {"optimizer": optimizer, "lr_scheduler": cosine}
        steps = int(self.trainer.estimated_stepping_batches)
        one_cycle = OneCycleLR(
            optimizer,
            max_lr=[self.hparams["lr"] * group.get("lr_scale", 1.0) for group in groups],
            total_steps=steps,
            # torch divides by the warm-up's steps minus one: with a single step it would divide by zero.
            pct_start=float(self.hparams["warmup"]) if self.hparams["warmup"] * steps > 1 else 0.0,
            cycle_momentum=False,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": one_cycle, "interval": "step"}}

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """Group parameters by weight decay and layer, from the input to the head: a layer has one learning rate."""
        if self.hparams["layer_decay"] == 1:
            return param_groups_weight_decay(self.network, self.hparams["weight_decay"])
        return param_groups_layer_decay(
            self.network, self.hparams["weight_decay"], layer_decay=self.hparams["layer_decay"]
        )

    def _loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return classification_loss(logits, targets, self.hparams["multilabel"], self.hparams["double_sigmoid"])
