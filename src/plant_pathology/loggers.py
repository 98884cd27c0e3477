"""Where a run's curves go: `logger=csv|tensorboard|mlflow|wandb`."""

from pytorch_lightning.loggers import Logger, TensorBoardLogger

from plant_pathology.runs import Run


def logger_of(run: Run) -> Logger:
    return TensorBoardLogger(run.folder, name="", version="", default_hp_metric=False, flush_secs=1)
