"""Average the weights over the last steps, and validate, keep and submit the average instead of the weights."""

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class WeightAverage(Callback):
    """Keep an exponential moving average of the network's weights and running means.

    The network holds the average from the beginning of a validation to the end of the epoch: best.ckpt is saved in
    between. Lightning's own callback gives the weights back before that, and best.ckpt would not be what was scored.
    Checkpoints to continue from hold both.

    Args:
        network: that is trained.
        decay: share of the average that a step keeps; 0.99 averages over about 100 steps.
    """

    def __init__(self, network: nn.Module, decay: float):
        self.network, self.decay = network, decay
        self._average: AveragedModel | None = None
        self._saved: dict[str, Any] | None = None
        self._swapped = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        average = get_ema_multi_avg_fn(self.decay)
        self._average = AveragedModel(self.network, multi_avg_fn=average, use_buffers=True)
        if self._saved is not None:
            self._average.load_state_dict(self._saved)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *batch: Any) -> None:
        assert self._average is not None, "made by on_train_start"
        self._average.update_parameters(self.network)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # After training, the network is loaded from best.ckpt, which holds the average.
        if trainer.state.fn == "fit":
            self._swap()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._swapped:
            self._swap()

    def state_dict(self) -> dict[str, Any]:
        return self._average.state_dict() if self._average else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._saved = state_dict

    def _swap(self) -> None:
        assert self._average is not None, "made by on_train_start"
        ours, averages = self.network.state_dict(), self._average.module.state_dict()
        with torch.no_grad():
            for name, weight in ours.items():
                kept = weight.clone()
                weight.copy_(averages[name])
                averages[name].copy_(kept)
        self._swapped = not self._swapped
