"""Where a run's curves go, besides metrics.csv: `logger=csv|tensorboard|mlflow|wandb`.

A run that continues goes on in the same curves. Its settings are logged with them, so that a tool's table compares all
runs. Each tool's package is imported only where it is chosen.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pandas as pd
from filelock import FileLock
from pytorch_lightning.loggers import Logger
from pytorch_lightning.loggers.logger import DummyLogger

from plant_pathology.core.errors import UserError
from plant_pathology.runs.run import Run

METRIC = "val_f1"  # by which tables compare runs


@contextmanager
def open_logger(run: Run, step: int) -> Iterator[Logger]:
    """The logger that the config chooses, with the run's settings logged; closed afterwards.

    Args:
        step: after which the run goes on; 0 for a new one.

    Raises:
        UserError: the logger's package is not installed.
    """
    name = run.cfg.logger.name
    opened = {"csv": csv_only, "tensorboard": tensorboard, "mlflow": mlflow, "wandb": wandb}[name]
    try:
        with opened(run, step) as logger:
            logger.log_hyperparams(settings(run))
            yield logger
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise UserError(f"logger={name}: pip install .[{name}]") from None


def settings(run: Run) -> dict[str, Any]:
    """All that decides the run's result, by dotted key."""
    (config,) = pd.json_normalize(run.identity["config"]).to_dict("records")
    config = {key: str(value) if isinstance(value, list) else value for key, value in config.items()}
    return config | {"data.sha256": run.identity["data"], "code": run.identity["code"]}


@contextmanager
def csv_only(run: Run, step: int) -> Iterator[Logger]:
    """Lightning's own CSV logger would write what metrics.csv holds once more."""
    yield DummyLogger()


@contextmanager
def tensorboard(run: Run, step: int) -> Iterator[Logger]:
    """Events, written out whenever Lightning logs. What an earlier process logged past `step` leaves the view."""
    from pytorch_lightning.loggers import TensorBoardLogger
    from torch.utils.tensorboard.summary import hparams

    logger = TensorBoardLogger(run.folder, name="", version="", default_hp_metric=False, purge_step=step)
    writer = logger.experiment._get_file_writer()
    # Not by log_hyperparams, which would log a value of the metric that was never measured.
    for summary in hparams(settings(run), {METRIC: 0}):
        writer.add_summary(summary)
    yield logger


@contextmanager
def mlflow(run: Run, step: int) -> Iterator[Logger]:
    """An MLflow run of the run's name, which is found by it again."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from pytorch_lightning.loggers import MLFlowLogger

    config = run.cfg.logger
    # One at a time: processes that make the same database fail each other.
    with FileLock(run.folder.parent / ".mlflow.lock"):
        client = MlflowClient(config.tracking_uri)
        with suppress(MlflowException):  # that it exists
            client.create_experiment(config.experiment)
        experiment = client.get_experiment_by_name(config.experiment)
        found = client.search_runs([experiment.experiment_id], f"attributes.run_name = '{run.name}'", max_results=1)
        if not found:
            found = [client.create_run(experiment.experiment_id, run_name=run.name)]
    run_id = found[0].info.run_id
    client.update_run(run_id, "RUNNING")
    yield MLFlowLogger(config.experiment, tracking_uri=config.tracking_uri, run_id=run_id)


@contextmanager
def wandb(run: Run, step: int) -> Iterator[Logger]:
    """A W&B run whose id is the run's name. It tells nothing of the machine, whose remotes may hold tokens."""
    import wandb
    from pytorch_lightning.loggers import WandbLogger

    config = run.cfg.logger
    quiet = wandb.Settings(
        silent=True,
        console="off",
        disable_git=True,
        save_code=False,
        symlink=False,
        x_disable_meta=True,
        x_disable_machine_info=True,
        x_disable_stats=True,
        x_save_requirements=False,
    )
    with wandb.init(
        project=config.project,
        entity=config.entity,
        id=run.name,
        name=run.name,
        # Offline there is nothing to resume from; of one id, `wandb sync` makes one run.
        resume=None if config.offline else "allow",
        mode="offline" if config.offline else "online",
        dir=run.folder,
        settings=quiet,
    ) as experiment:
        experiment.define_metric(METRIC, summary="max")
        yield WandbLogger(experiment=experiment)
