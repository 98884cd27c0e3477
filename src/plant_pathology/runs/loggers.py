"""Log a run's curves to TensorBoard, MLflow or W&B, besides metrics.csv: `logger=csv|tensorboard|mlflow|wandb`.

A run that continues appends to the same curves. Its hyperparameters are logged too, so that the tool can compare runs
in a table. Only the chosen tool's package is imported.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pandas as pd
from filelock import FileLock
from pytorch_lightning.loggers import Logger
from pytorch_lightning.loggers.logger import DummyLogger

from plant_pathology.core.errors import UserError
from plant_pathology.runs.run import Run

USED_BY_LOGGERS = ("requests", "sqlalchemy", "urllib3")  # packages whose errors are those of a server or a database
REMEDIES = {
    "mlflow": "check logger.tracking_uri and its server",
    "wandb": "run `wandb login`, or set logger.offline=true",
    "tensorboard": "check the run's folder",
    "csv": "check the run's folder",
}
METRIC = "val_score"  # by which the tools' tables compare runs


@contextmanager
def open_logger(run: Run, step: int) -> Iterator[Logger]:
    """Open the logger that the config chooses, log the hyperparameters, and close it at the end of the block.

    Args:
        run: the run to log.
        step: optimizer step after which the run continues; 0 for a new run.

    Raises:
        UserError: the logger's package is not installed, or its server or database fails, before or while it trains: a
            run that is started again continues.
    """
    name = run.cfg.logger.name
    opened = {"csv": csv_only, "tensorboard": tensorboard, "mlflow": mlflow, "wandb": wandb}[name]
    try:
        with opened(run, step) as logger:
            logger.log_hyperparams(hyperparameters(run))
            yield logger
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise UserError(f'logger={name} needs a package: pip install -c requirements.lock -e ".[{name}]"') from None
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in (name, *USED_BY_LOGGERS):
            raise
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"logger={name}: {reason}: {REMEDIES[name]}, or train with logger=csv") from None


def hyperparameters(run: Run) -> dict[str, Any]:
    """Return everything that decides the run's result, with dotted keys."""
    (config,) = pd.json_normalize(run.identity["config"]).to_dict("records")
    config = {key: str(value) if isinstance(value, list) else value for key, value in config.items()}
    return config | {"data.sha256": run.identity["data"], "code": run.identity["code"]}


@contextmanager
def csv_only(run: Run, step: int) -> Iterator[Logger]:
    """Log nothing more: Lightning's CSV logger would only repeat metrics.csv."""
    yield DummyLogger()


@contextmanager
def tensorboard(run: Run, step: int) -> Iterator[Logger]:
    """Write TensorBoard events. Those that an interrupted process logged after `step` are hidden (purge_step)."""
    from pytorch_lightning.loggers import TensorBoardLogger
    from torch.utils.tensorboard.summary import hparams

    logger = TensorBoardLogger(run.folder, name="", version="", default_hp_metric=False, purge_step=step)
    writer = logger.experiment._get_file_writer()
    # Written directly, because log_hyperparams would add a value of the metric that was never measured.
    for summary in hparams(hyperparameters(run), {METRIC: 0}):
        writer.add_summary(summary)
    yield logger


@contextmanager
def mlflow(run: Run, step: int) -> Iterator[Logger]:
    """Log to the MLflow run with this run's name; create it where it does not exist."""
    # By default MLflow asks a server that does not answer for minutes, without a word.
    for variable, value in (("MAX_RETRIES", "2"), ("BACKOFF_FACTOR", "1"), ("TIMEOUT", "20")):
        os.environ.setdefault(f"MLFLOW_HTTP_REQUEST_{variable}", value)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from pytorch_lightning.loggers import MLFlowLogger

    config = run.cfg.logger
    # Locked, because processes that create the same database at the same time make each other fail.
    with FileLock(run.folder.parent / ".mlflow.lock"):
        client = MlflowClient(config.tracking_uri)
        experiment = client.get_experiment_by_name(config.experiment)
        if experiment is None:
            with suppress(MlflowException):  # another machine creates it
                client.create_experiment(config.experiment)
            experiment = client.get_experiment_by_name(config.experiment)
        assert experiment is not None
        found = client.search_runs([experiment.experiment_id], f"attributes.run_name = '{run.name}'", max_results=1)
        ours = found[0] if found else client.create_run(experiment.experiment_id, run_name=run.name)
    run_id = ours.info.run_id
    client.update_run(run_id, "RUNNING")
    yield MLFlowLogger(config.experiment, tracking_uri=config.tracking_uri, run_id=run_id)


@contextmanager
def wandb(run: Run, step: int) -> Iterator[Logger]:
    """Log to the W&B run whose id is this run's name.

    Details of the machine and of git are not sent: the address of a git remote may hold a token.
    """
    # Otherwise it sends its own errors to its makers, which takes long where there is no network.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb
    from pytorch_lightning.loggers import WandbLogger

    config = run.cfg.logger
    quiet = wandb.Settings(
        silent=True,
        init_timeout=30,
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
        # Offline there is nothing to resume: `wandb sync` merges all parts with one id into one run.
        resume=None if config.offline else "allow",
        mode="offline" if config.offline else "online",
        dir=run.folder,
        settings=quiet,
    ) as experiment:
        experiment.define_metric(METRIC, summary="max")
        yield WandbLogger(experiment=experiment)
