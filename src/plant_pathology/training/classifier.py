"""A timm network as a Lightning module: loss on logits, schedule by step, the competition's metric by epoch."""

import numpy as np
import pytorch_lightning as pl
import timm
import torch
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from torch import Tensor
from torch.nn import functional
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR
from torchmetrics import MeanMetric

from plant_pathology.competition.metrics import best_threshold
from plant_pathology.inference import tta as symmetries


class Classifier(pl.LightningModule):
    """Images in [0, 1] to logits.

    Args:
        name: any timm model.
        pretrained: start from timm's weights.
        outputs: number of labels.
        multilabel: a sigmoid a label; otherwise one softmax.
        lr: peak learning rate, reached after the share `warmup` of all steps; cosine to zero from there.
        layer_decay: each layer's learning rate as a share of that of the layer above it; the head has all of `lr`
            (Clark et al. 2020, ELECTRA; Bao et al. 2021, BEiT).
        weight_decay: of matrices and kernels; none on biases and norms.
        schedule: by "step"; by "epoch" it is a plain cosine without warm-up.
        double_sigmoid: the loss takes probabilities for logits, a mistake to be measured.
    """

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
        self.network = timm.create_model(name, pretrained=pretrained, num_classes=outputs).to(
            memory_format=torch.channels_last
        )
        data = timm.data.resolve_model_data_config(self.network)
        self.normalization = {"mean": list(data["mean"]), "std": list(data["std"])}
        for key, value in self.normalization.items():
            self.register_buffer(key, torch.tensor(value).view(3, 1, 1), persistent=False)
        # In checkpoints, so that a run which continues in the midst of an epoch knows the losses before.
        self.train_loss = MeanMetric(nan_strategy="disable")
        self.train_loss.persistent(True)
        self.validated: list[tuple[Tensor, Tensor]] = []
        self.views = 1  # of each image, whose mean probabilities are validated

    def forward(self, images: Tensor) -> Tensor:
        """(n, 3, side, side) in [0, 1] to (n, outputs) logits."""
        return self.network(((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last))

    def on_train_epoch_start(self) -> None:
        # Not left to Lightning, which does so after the checkpoint of the epoch before.
        self.train_loss.reset()

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss = self._loss(self(batch["images"]), batch["targets"])
        self.train_loss.update(loss.detach())
        self.log("train_loss", self.train_loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        logits = [self(images) for images in symmetries.views(batch["images"], self.views)]
        self.log("val_loss", self._loss(logits[0], batch["targets"]), batch_size=len(batch["targets"]))
        self.validated.append((sum(map(self.probabilities, logits)) / len(logits), batch["targets"]))

    def on_validation_epoch_start(self) -> None:
        self.validated.clear()

    def on_validation_epoch_end(self) -> None:
        threshold, f1 = best_threshold(*self.validation_results(), multilabel=self.hparams.multilabel)
        self.log("val_f1", f1, prog_bar=True)
        self.log("val_threshold", threshold)
        if self.trainer.optimizers:
            # Not by Lightning's monitor, which has none of an epoch that is continued.
            self.log("lr", self.trainer.optimizers[0].param_groups[-1]["lr"])

    def validation_results(self) -> tuple[np.ndarray, np.ndarray]:
        """Of the validation that ran last: (n, outputs) probabilities and (n, outputs) targets, in order."""
        probabilities, targets = (torch.cat(parts).float().cpu().numpy() for parts in zip(*self.validated, strict=True))
        return probabilities, targets

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.float().sigmoid() if self.hparams.multilabel else logits.float().softmax(dim=1)

    def configure_optimizers(self) -> dict:
        groups = self._parameter_groups()
        # Lightning clips no gradients of a fused optimizer in mixed precision, since it may unscale them itself.
        fused = self.device.type == "cpu" and self.trainer.precision == "32-true"
        optimizer = torch.optim.AdamW(groups, lr=self.hparams.lr, fused=fused)
        if self.hparams.schedule == "epoch":
            return {"optimizer": optimizer, "lr_scheduler": CosineAnnealingLR(optimizer, self.trainer.max_epochs)}
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = OneCycleLR(
            optimizer,
            max_lr=[self.hparams.lr * group.get("lr_scale", 1.0) for group in groups],
            total_steps=steps,
            # Torch divides by the steps of the warm-up less one.
            pct_start=float(self.hparams.warmup) if self.hparams.warmup * steps > 1 else 0.0,
            cycle_momentum=False,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _parameter_groups(self) -> list[dict]:
        """From the input to the head; those of one layer share a learning rate."""
        decay = self.hparams.weight_decay
        if self.hparams.layer_decay == 1:
            return param_groups_weight_decay(self.network, decay)
        return param_groups_layer_decay(self.network, decay, layer_decay=self.hparams.layer_decay)

    def _loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        if self.hparams.double_sigmoid:
            logits = logits.sigmoid()
        if self.hparams.multilabel:
            return functional.binary_cross_entropy_with_logits(logits, targets)
        return functional.cross_entropy(logits, targets)
