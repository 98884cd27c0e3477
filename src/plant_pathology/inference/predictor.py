"""Predict a submission from a bundle and the test images: this is all that the kernel runs.

Imports nothing of ours outside `inference`, and only packages that Kaggle's image has: torch, timm, safetensors, NumPy,
pandas, Pillow and tqdm.
"""

import json
import platform
import sys
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import PIL
import timm
import torch
from safetensors.torch import load_file
from tqdm import tqdm

from plant_pathology.inference.decision import Decision
from plant_pathology.inference.decode import ImageError, decode_squares
from plant_pathology.inference.tta import views

BATCH_SIZE = 32
# Number of batches to decode in advance while a GPU predicts. A CPU decodes and predicts in turn: each uses all cores,
# and at the same time they slow each other down.
PREFETCH = 1 if torch.cuda.is_available() else 0


class Predictor:
    """Load a bundle that `select` wrote: networks, preprocessing and decision rule.

    Args:
        folder: the bundle: bundle.json, and one .safetensors file per network.

    Raises:
        FileNotFoundError: bundle.json or a network's weights are missing.
    """

    def __init__(self, folder: Path):
        self.spec = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
        self.labels: list[str] = self.spec["labels"]
        self.decision = Decision(self.spec["decision"]["by"], np.array(self.spec["decision"]["values"]))
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.networks = [self._load(folder, member) for member in self.spec["members"]]
        self.sides = sorted({member["image_size"] for member in self.spec["members"]})

    def probabilities(self, paths: Sequence[Path]) -> tuple[np.ndarray, list[str]]:
        """Predict all images, batch by batch, so that memory does not grow with their number.

        Returns:
            probabilities, (n, labels) float32, with zeros for an image that cannot be read; and one message for each of
            those images.
        """
        rows: list[np.ndarray] = []
        problems: list[str] = []
        batches = (len(paths) + BATCH_SIZE - 1) // BATCH_SIZE
        bar = tqdm(decoded_batches(paths, self.sides), "predict", batches, unit="batch", disable=None)
        for batch in bar:
            squares = [image for image in batch if not isinstance(image, ImageError)]
            problems += [str(image) for image in batch if isinstance(image, ImageError)]
            row = np.zeros((len(batch), len(self.labels)), np.float32)
            if squares:
                by_side = {side: np.stack(images) for side, *images in zip(self.sides, *squares, strict=True)}
                row[[not isinstance(image, ImageError) for image in batch]] = self._forward(by_side)
            rows.append(row)
        return np.concatenate(rows) if rows else np.zeros((0, len(self.labels)), np.float32), problems

    def label_sets(self, probabilities: np.ndarray) -> list[str]:
        """Return each row's labels as the submission spells them.

        A row of zeros, an unreadable image, gets the most frequent label set of the training data.
        """
        chosen = self.decision.labels(probabilities)
        names = np.array(self.labels)
        return [
            self.spec["separator"].join(names[row]) if predicted.any() else self.spec["fallback"]
            for row, predicted in zip(chosen, probabilities, strict=True)
        ]

    def _load(self, folder: Path, member: dict) -> torch.nn.Module:
        network = timm.create_model(member["architecture"], pretrained=False, num_classes=len(self.labels))
        network.load_state_dict(load_file(folder / member["weights"]))
        network = network.eval().to(self.device)
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stubs

    @torch.inference_mode()
    def _forward(self, images: dict[int, np.ndarray]) -> np.ndarray:
        """Return the ensemble's (n, labels) probabilities: the members' weighted mean, each averaged over its views.

        Probabilities are averaged, not log-odds: of these, one confident and wrong member would dominate the mean.

        Args:
            images: the same images by side in pixels, each (n, side, side, 3) uint8.
        """
        pixels = {side: torch.from_numpy(squares).to(self.device) for side, squares in images.items()}
        total = torch.zeros(len(next(iter(images.values()))), len(self.labels), device=self.device)
        for member, network in zip(self.spec["members"], self.networks, strict=True):
            mean, std = (torch.tensor(member[key], device=self.device).view(3, 1, 1) for key in ("mean", "std"))
            # In place, because allocating large temporary tensors fragments the heap, and memory grows.
            inputs = pixels[member["image_size"]].permute(0, 3, 1, 2).float().div_(255).sub_(mean).div_(std)
            for view in views(inputs, member["views"]):
                logits = network(view.contiguous(memory_format=torch.channels_last)).float()
                probabilities = logits.sigmoid() if self.spec["multilabel"] else logits.softmax(dim=1)
                total = total + member["weight"] / member["views"] * probabilities
        return total.cpu().numpy()


def decoded_batches(paths: Sequence[Path], sides: Sequence[int]) -> Iterator[list[list[np.ndarray] | ImageError]]:
    """Decode in threads, PREFETCH batches in advance.

    Yields:
        Per batch a list with one entry per image: one square for every side, or the error.
    """

    def decode_or_error(path: Path) -> list[np.ndarray] | ImageError:
        try:
            return decode_squares(path, sides)[0]
        except ImageError as error:
            return error

    with ThreadPoolExecutor() as pool:
        pending: deque[Iterator] = deque()
        for start in range(0, len(paths), BATCH_SIZE):
            pending.append(pool.map(decode_or_error, paths[start : start + BATCH_SIZE]))
            if len(pending) > PREFETCH:
                yield list(pending.popleft())
        while pending:
            yield list(pending.popleft())


def predict_submission(bundle: Path, test_images: Path, sample_submission: Path) -> tuple[pd.DataFrame, list[str]]:
    """Predict the images that sample_submission.csv lists.

    Args:
        bundle: folder that `select` wrote.
        test_images: folder of the images.
        sample_submission: path of sample_submission.csv.

    Returns:
        The submission, with that file's rows and columns; and one message per image that could not be read.
    """
    predictor = Predictor(bundle)
    image_column, label_column = predictor.spec["image_column"], predictor.spec["label_column"]
    submission = pd.read_csv(sample_submission, dtype=str)
    probabilities, problems = predictor.probabilities([test_images / name for name in submission[image_column]])
    submission[label_column] = predictor.label_sets(probabilities)
    return submission, problems


def write_submission(bundle: Path, test_images: Path, sample_submission: Path, out: Path) -> None:
    """Write the submission to `out`; print unreadable images and the most frequent label sets."""
    submission, problems = predict_submission(bundle, test_images, sample_submission)
    submission.to_csv(out, index=False)
    for problem in problems:
        print(f"unreadable, gets the most frequent labels: {problem}")
    print(f"{out}: {len(submission)} rows, {len(problems)} unreadable")
    for labels, count in Counter(submission.iloc[:, -1]).most_common(12):
        print(f"{count:6d}  {labels}")


def versions() -> str:
    """Return the versions of Python and libraries in one line: the first thing to check when a kernel misbehaves."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    libraries = " ".join(f"{module.__name__} {module.__version__}" for module in (torch, timm, np, pd, PIL))
    return f"Python {platform.python_version()} {libraries}, {device}, {sys.platform}"
