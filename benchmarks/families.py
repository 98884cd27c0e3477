"""Try timm's families of networks: train a step, pack the weights, and let the kernel's predictor predict with them.

    python benchmarks/families.py                       the smallest network of each family under 10 million weights
    python benchmarks/families.py vit_tiny_patch16_224 swin_tiny_patch4_window7_224

A family is a module of timm.models. Images have 256 px. The predictor must give the outputs that the trained network
gives. Prints a line per network, and at the end how many work.
"""

import sys
import tempfile
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import timm
import torch
from safetensors.torch import save_file

from plant_pathology.competition.metrics import metric_of
from plant_pathology.competition.task import Task
from plant_pathology.core.schema import Model
from plant_pathology.inference.predictor import Predictor
from plant_pathology.training.classifier import Classifier
from plant_pathology.training.network import create_network

SIDE, LARGEST, LABELS = 256, 10_000_000, 6
TOLERANCE = 1e-4  # of a probability


def main() -> None:
    names = sys.argv[1:] or list(smallest())
    equal = 0
    for name in names:
        # In a process of its own, because a network may crash it.
        running = get_context("fork").Process(target=report, args=(name,))
        running.start()
        running.join()
        equal += running.exitcode == 0
        if running.exitcode and running.exitcode < 0:
            print(f"{name:40} ends its process by signal {-running.exitcode}", flush=True)
    print(f"{equal} of {len(names)} are trained, packed, and predict equally")


def report(name: str) -> None:
    """Try a network and print a line; exit with code 1 if it cannot be trained, or is not the same when packed."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    try:
        arguments, difference = try_network(name)
    except Exception as error:  # of any network: the table says which
        print(f"{name:40} {type(error).__name__}: {' '.join(str(error).split())[:160]}", flush=True)
        sys.exit(1)
    print(f"{name:40} {arguments}, differs by {difference:.1e}", flush=True)
    sys.exit(difference >= TOLERANCE)


def smallest() -> Iterator[str]:
    """Yield the smallest network of each module of timm.models that has one below LARGEST; print the others."""
    for module in timm.list_modules():
        sizes: dict[str, int] = {}
        for name in timm.list_models(module=module):
            with torch.device("meta"):  # no weights are made, only counted
                sizes[name] = sum(weights.numel() for weights in timm.create_model(name).parameters())
            if sizes[name] < LARGEST / 2:
                break
        if sizes and min(sizes.values()) < LARGEST:
            yield min(sizes, key=sizes.__getitem__)
        elif sizes:
            print(f"{module}: its smallest network has {min(sizes.values()) / 1e6:.0f} million weights", flush=True)


def try_network(name: str) -> tuple[dict, float]:
    """Train a network a step and pack it.

    Returns:
        The arguments of timm that fit it to SIDE, and the largest difference of a probability that the kernel gives.
    """
    settings = SimpleNamespace(**{key: getattr(Model, key, None) for key in Model.__annotations__})
    settings.name, settings.pretrained = name, False
    network = create_network(settings, LABELS, [SIDE])
    classifier = Classifier(network.module, Task("several", metric_of("sample_f1"), LABELS), None, vars(settings))
    optimizer = torch.optim.AdamW(classifier._parameter_groups(), lr=1e-4)
    images = torch.randint(0, 256, (2, 3, SIDE, SIDE), dtype=torch.uint8)
    classifier.train()
    classifier._loss(classifier(images / 255), torch.eye(LABELS)[:2]).backward()
    optimizer.step()
    classifier.eval()
    with torch.no_grad():
        trained = classifier(images / 255).sigmoid()
    with tempfile.TemporaryDirectory() as folder:
        weights = {
            key: value.clone(memory_format=torch.contiguous_format)
            for key, value in network.module.state_dict().items()
        }
        save_file(weights, Path(folder) / "network.safetensors")
        member = {"architecture": network.architecture, "arguments": network.arguments, "views": 1}
        member |= {"weights": "network.safetensors", **classifier.normalization}
        predictor = Predictor.__new__(Predictor)  # without bundle.json, which no training has written
        predictor.spec = {"outputs": LABELS, "kind": "several", "scale": None, "members": [member]}
        predictor.device, predictor.half = torch.device("cpu"), False
        predictor.networks = predictor._load(Path(folder), predictor.device)
    predicted = torch.from_numpy(predictor.predict_member(0, images.permute(0, 2, 3, 1).numpy()))
    return network.arguments, float((predicted - trained).abs().max())


if __name__ == "__main__":
    main()
