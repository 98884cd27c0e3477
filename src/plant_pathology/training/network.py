"""Create the network that `model:` names, with the arguments of timm that fit it to the sizes of the images.

Convolutional networks take images of any size. Others are made for one size (`img_size`), for sizes that change during
training (`dynamic_img_size`), or for a single one. Which arguments fit is tried: a network is created and predicts one
image of each side. The bundle keeps the arguments, so that the kernel creates the same network.
"""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import timm
import torch
from omegaconf import DictConfig
from timm.models import load_model_config_from_hf, parse_model_name
from timm.models._hub import load_model_config_from_path
from torch import nn

from plant_pathology.core.errors import UserError
from plant_pathology.training.weights import cached_alone, fetch_config, fetch_weights, own_weights

SIDE = "img_size"
# What networks of timm raise that do not take an argument or a size.
REFUSALS = (AssertionError, TypeError, RuntimeError, ValueError, AttributeError, IndexError, KeyError)
NEAR = (14, 16, 32, 64)  # sizes in multiples of these are offered where one does not fit


@dataclass(frozen=True)
class Network:
    """A network, and what creates it again without its weights: `timm.create_model(architecture, **arguments)`."""

    module: nn.Module
    architecture: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Source:
    """Say what timm knows of a name before it creates the network.

    Args:
        architecture: the name in timm's registry; of hf-hub: and local-dir:, the one in their config.json.
        arguments: that config.json adds, but the number of its own classes.
        config: timm's `pretrained_cfg`: the size that the weights were trained at, among others.
    """

    architecture: str
    arguments: dict[str, Any]
    config: dict[str, Any]


def create_network(model: DictConfig, outputs: int, sides: Sequence[int], labels: Sequence[str] = ()) -> Network:
    """Create a network with a new head, pretrained if `model:` says so.

    Args:
        model: the config's `model:`.
        outputs: number of outputs of the head.
        sides: of all images that it will see, in pixels; the last one is that of validation and prediction.
        labels: of the outputs; a head of `model.init_from` is kept where it was trained for the same ones.

    Raises:
        UserError: timm has no such network, it takes no images of that size, or its weights cannot be had.
    """
    source = source_of(model.name)
    more: dict[str, Any] = {"num_classes": outputs}
    if model.drop_path or "drop_path_rate" in source.arguments:  # else the config.json decides
        more["drop_path_rate"] = model.drop_path
    if model.init_from:
        more |= own_weights(model, outputs, labels)
    elif model.pretrained:
        fetch_weights(model.name)
        more["pretrained"] = True
    state, reasons = torch.get_rng_state(), []
    for arguments in fitting_arguments(source, sides):
        # The weights of a new network do not depend on how many arguments were tried before.
        torch.set_rng_state(state)
        try:
            module = create(model.name, **more, **arguments)
            require_sides(module, sides, outputs)
        except REFUSALS as error:
            reasons.append(" ".join(f"{error}".split())[:200] or type(error).__name__)
        else:
            return Network(module, source.architecture, source.arguments | arguments)
    raise UserError(_why_not(model, source, sides, reasons))


def create(name: str, **arguments: Any) -> nn.Module:
    """Create a timm network from files that are on this machine, ready for images in channels_last."""
    with cached_alone():
        module = timm.create_model(name, **arguments)
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stubs


def source_of(name: str) -> Source:
    """Return what timm, a Hugging Face repository (hf-hub:) or a folder (local-dir:) says about a network.

    Raises:
        UserError: there is no such network, or its config.json cannot be had.
    """
    try:
        kind, place = parse_model_name(name)
    except ValueError as error:
        raise UserError(f"model={name}: {error}") from None
    if kind is None:
        architecture = place.split(".")[0]
        if not timm.is_model(architecture):
            near = difflib.get_close_matches(place, timm.list_models(), n=5, cutoff=0.5)
            raise UserError(
                f"model={name}: timm has no such model; "
                + (f"did you mean {', '.join(near)}?" if near else "see timm.list_models()")
            )
        known = timm.get_pretrained_cfg(place) or timm.get_pretrained_cfg(architecture)
        return Source(place, {}, known.to_dict() if known else {})
    fetch_config(name)
    try:
        with cached_alone():
            load = load_model_config_from_hf if kind == "hf-hub" else load_model_config_from_path
            config, architecture, arguments = load(place)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"model={name}: its config.json is not that of a timm model ({error})") from None
    if not timm.is_model(architecture):
        raise UserError(f"model={name}: its config.json names {architecture}, which timm {timm.__version__} lacks")
    # In the kernel timm's own defaults hold, not those of the repository.
    kept = {key: config[key] for key in ("global_pool",) if config.get(key)}
    added = {key: value for key, value in (arguments or {}).items() if key != "num_classes"}
    return Source(architecture, kept | added, config)


def fitting_arguments(source: Source, sides: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Yield arguments of timm that may fit a network to the sides, the likeliest first."""
    fixed, full = source.config.get("fixed_input_size"), sides[-1]
    if not fixed:
        yield {}
    if len(set(sides)) > 1:
        yield {SIDE: full, "dynamic_img_size": True}
        yield {SIDE: full, "dynamic_img_size": True, "dynamic_img_pad": True}
        yield {SIDE: full, "strict_img_size": False}
    yield {SIDE: full}
    if fixed:
        yield {}


def require_sides(module: nn.Module, sides: Sequence[int], outputs: int) -> None:
    """Predict an image of each side.

    Raises:
        Exception: whatever the network raises that does not take one of them.
        ValueError: it predicts something else than one number per output.
    """
    training = module.training
    module.eval()
    # Not in inference mode: networks may keep what they compute for a size, and train with it later.
    with torch.no_grad():
        for side in sorted(set(sides)):
            image = torch.zeros(1, 3, side, side).contiguous(memory_format=torch.channels_last)
            shape = getattr(module(image), "shape", None)
            if shape != (1, outputs):
                raise ValueError(f"it predicts {shape and tuple(shape)}, not {outputs} numbers an image")
    module.train(training)


def _why_not(model: DictConfig, source: Source, sides: Sequence[int], reasons: list[str]) -> str:
    """Return in one line why a network cannot be created for these sides, and what can be changed."""
    full = sides[-1]
    if model.drop_path and any("drop_path" in reason for reason in reasons):
        return f"model.drop_path={model.drop_path:g}: {model.name} has no drop path: set it to 0"
    reason = next((each for each in reasons if "unexpected keyword" not in each), reasons[-1])
    if len(set(sides)) > 1 and _fits(model.name, source, full):
        growing = f"{', '.join(map(str, sorted(set(sides))[:-1]))} px"
        return f"model={model.name} takes images of {full} px, but not of {growing} ({reason}): set data.grow.start=1"
    if (model.pretrained or model.init_from) and _fits(model.name, source, full):
        return f"model={model.name}: the weights do not fit: {reason}"
    native = int((source.config.get("input_size") or (3, 224, 224))[-1])
    near = {native, *(max(step, full // step * step + up) for step in NEAR for up in (0, step))} - {full}
    fitting = [side for side in sorted(near, key=lambda side: abs(side - full)) if _fits(model.name, source, side)]
    if not fitting:
        return f"model={model.name} cannot be trained: {reason}"
    sizes = " or ".join(map(str, fitting[:2]))
    return f"model={model.name} takes no images of {full} px ({reason}): set prepare.image_size={sizes}"


def _fits(name: str, source: Source, side: int) -> bool:
    """Return whether a network without pretrained weights takes images of one side."""
    for arguments in fitting_arguments(source, [side]):
        try:
            require_sides(create(name, num_classes=2, **arguments), [side], 2)
        except REFUSALS:
            continue
        return True
    return False
