"""Find the weights that a network starts from: timm's, on this machine first, or those of an own run.

A job may run on a machine without a connection: what is in the cache of Hugging Face (`HF_HOME`) is used without asking
the internet, and what is not is downloaded before a network is created.
"""

import logging
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from logging.handlers import BufferingHandler
from pathlib import Path
from typing import Any
from unittest.mock import patch

import timm
import torch
from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError
from omegaconf import DictConfig
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models import PretrainedCfg, parse_model_name

from plant_pathology.core.errors import UserError
from plant_pathology.data.predictions import read_predictions
from plant_pathology.runs.folder import BEST, PREDICTIONS

CONFIG, WEIGHTS = "config.json", ("model.safetensors", "pytorch_model.bin")
PREFIX = "network."  # in a run's checkpoint, of the weights of the timm network


@contextmanager
def cached_alone() -> Iterator[None]:
    """Let Hugging Face's library use files of its cache without asking the internet whether they are the newest."""
    with patch.object(constants, "HF_HUB_OFFLINE", True):
        yield


def fetch_weights(name: str) -> None:
    """Download a network's pretrained weights, unless they are on this machine.

    Args:
        name: of a timm model, hf-hub:<repository> or local-dir:<folder>.

    Raises:
        UserError: there are none, or they cannot be downloaded.
    """
    fetch_config(name)
    kind, place = parse_model_name(name)
    if kind == "hf-hub":
        _fetch(name, place, WEIGHTS, f"{_CONNECT}, or set model.pretrained=false")
    elif (known := require_weights(name)) and known.hf_hub_id:
        files = (known.hf_hub_filename,) if known.hf_hub_filename else WEIGHTS
        _fetch(name, known.hf_hub_id, files, f"{_CONNECT}, or set model.pretrained=false")


def fetch_config(name: str) -> None:
    """Download the config.json that describes a network of a repository, unless it is on this machine.

    Args:
        name: as for `fetch_weights`; what timm names itself needs none.

    Raises:
        UserError: there is none, or it cannot be downloaded.
    """
    kind, place = parse_model_name(name)
    if kind == "local-dir" and not (Path(place) / CONFIG).is_file():
        raise UserError(f"model={name}: {Path(place) / CONFIG} does not exist")
    if kind == "hf-hub":
        _fetch(name, place, (CONFIG,), _CONNECT)


def require_weights(name: str) -> PretrainedCfg | None:
    """Return what timm knows of a network's pretrained weights; None for a network that timm does not name.

    Raises:
        UserError: it has none.
    """
    kind, place = parse_model_name(name)
    if kind:
        return None
    known = timm.get_pretrained_cfg(place)
    if known is None or not known.has_weights:
        others = timm.list_pretrained(f"{place.split('.')[0]}.*")
        tagged = f"; it has {', '.join(others[:5])}" if others else ""
        raise UserError(f"model.pretrained=true, but timm has no weights of {name}{tagged}: set model.pretrained=false")
    return known


def _fetch(name: str, place: str, files: Sequence[str], remedy: str) -> None:
    """Download the first file that a repository has, unless one is in the cache.

    Args:
        place: repository, with @<revision> if not the newest is meant.
    """
    repository, _, revision = place.partition("@")
    if any(isinstance(try_to_load_from_cache(repository, file, revision=revision or None), str) for file in files):
        return
    missing = f"model={name}: {' or '.join(files)} of {repository} is not in {constants.HF_HUB_CACHE}"
    if constants.HF_HUB_OFFLINE:
        raise UserError(f"{missing}, and HF_HUB_OFFLINE=1: {remedy}")
    for file in files:
        with _attempts() as attempts:
            try:
                hf_hub_download(repository, file, revision=revision or None)
                return
            except EntryNotFoundError:
                continue
            except Exception as error:  # of HTTP, of the disk, or about a repository that does not exist
                said = "\n".join([*(attempt.getMessage() for attempt in attempts), str(error), type(error).__name__])
                reason = said.strip().splitlines()[0]
                raise UserError(f"{missing}, and cannot be downloaded ({reason}): {remedy}") from None
    raise UserError(f"model={name}: {repository} has no {' or '.join(files)}")


_CONNECT = "connect to the internet once, or set HF_HOME to a cache that has it"


@contextmanager
def _attempts() -> Iterator[list[logging.LogRecord]]:
    """Give what Hugging Face's library logs in the place of the terminal: one warning for each attempt.

    The error after the last one may not say any more what was wrong with the first.
    """
    logger, heard = logging.getLogger("huggingface_hub"), BufferingHandler(1000)
    with patch.object(logger, "handlers", [heard]), patch.object(logger, "propagate", False):
        yield heard.buffer


def own_weights(model: DictConfig, outputs: int, labels: Sequence[str]) -> dict[str, Any]:
    """Return the arguments with which timm starts a network from the weights of `model.init_from`.

    timm fits them to another size of images. The head is new, unless a run brings it for the same labels.

    Raises:
        UserError: the file holds no weights, or those of another network.
    """
    path = Path(model.init_from)
    state = read_weights(path)
    with torch.device("meta"), cached_alone():
        network = timm.create_model(model.name, num_classes=outputs)
    heads: Any = network.pretrained_cfg.get("classifier") or ()  # type: ignore[union-attr, operator]  # timm sets it
    heads = (heads,) if isinstance(heads, str) else tuple(heads)
    needed = {key for key in network.state_dict() if not key.startswith(tuple(f"{head}." for head in heads))}
    if missing := sorted(needed - state.keys()):
        raise UserError(
            f"model.init_from={path} holds the weights of another network than {model.name}: {missing[0]} is not there"
        )
    same = _labels_of(path) == list(labels) != []
    kept = network.state_dict().keys() if same else needed
    state = {key: value for key, value in state.items() if key in kept}
    # timm drops the head of weights for another number of classes; -1 is never the number of ours.
    cfg = {"state_dict": state, "num_classes": outputs if same else -1, "hf_hub_id": None, "label_offset": 0}
    return {"pretrained": True, "pretrained_cfg_overlay": cfg | {"custom_load": False}}


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read weights as data, without running code: of a run's checkpoint, or any file of torch or safetensors.

    Raises:
        UserError: it holds none.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(f"model.init_from={path} cannot be read: {' '.join(str(error).split())[:200]}") from None
    state = content.get("state_dict", content) if isinstance(content, dict) else {}
    weights = {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}
    if not weights:
        raise UserError(f"model.init_from={path} holds no weights")
    return {key.removeprefix(PREFIX): value for key, value in weights.items() if key.startswith(PREFIX)} or weights


def _labels_of(path: Path) -> list[str] | None:
    """Return the labels that a run's weights were trained for; None for a file that is not of a run."""
    predictions = path.with_name(PREDICTIONS)
    return list(read_predictions(predictions).labels) if path.name == BEST and predictions.is_file() else None
