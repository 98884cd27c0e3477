"""A bundle and images in, a submission out: all that the kernel needs.

Imports torch, timm, safetensors, NumPy, pandas and Pillow, and of this package what imports no more than they do.
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
# Batches that are decoded while a GPU predicts. A CPU does one after the other: both take all its cores, and slow each
# other down when they share them.
PREFETCH = 1 if torch.cuda.is_available() else 0


class Predictor:
    """What select wrote: networks, preprocessing, and what decides on labels.

    Args:
        folder: holds bundle.json and a .safetensors file a network.

    Raises:
        FileNotFoundError: the folder is no bundle, or a network's weights are not there.
    """

    def __init__(self, folder: Path):
        self.spec = json.loads((folder / "bundle.json").read_text())
        self.labels: list[str] = self.spec["labels"]
        self.decision = Decision(self.spec["decision"]["by"], np.array(self.spec["decision"]["values"]))
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.networks = [self._load(folder, member) for member in self.spec["members"]]
        self.sides = sorted({member["image_size"] for member in self.spec["members"]})

    def probabilities(self, paths: Sequence[Path]) -> tuple[np.ndarray, list[str]]:
        """Predict every image; memory does not grow with their number.

        Returns:
            (n, labels) float32, a row of zeros for an image that cannot be read; and what was wrong with those.
        """
        rows, problems = [], []
        batches = (len(paths) + BATCH_SIZE - 1) // BATCH_SIZE
        bar = tqdm(decoded_batches(paths, self.sides), "predict", batches, unit="batch", disable=None)
        for batch in bar:
            readable = np.array([not isinstance(image, ImageError) for image in batch])
            problems += [str(image) for image in batch if isinstance(image, ImageError)]
            row = np.zeros((len(batch), len(self.labels)), np.float32)
            if readable.any():
                squares = zip(*(batch[i] for i in np.flatnonzero(readable)), strict=True)
                row[readable] = self._forward(dict(zip(self.sides, map(np.stack, squares), strict=True)))
            rows.append(row)
        return np.concatenate(rows) if rows else np.zeros((0, len(self.labels)), np.float32), problems

    def label_sets(self, probabilities: np.ndarray) -> list[str]:
        """Each row as the submission spells it; a row of zeros gets the training set's most frequent set."""
        chosen = self.decision.labels(probabilities)
        names = np.array(self.labels)
        return [
            self.spec["separator"].join(names[row]) if predicted else self.spec["fallback"]
            for row, predicted in zip(chosen, probabilities.any(axis=1), strict=True)
        ]

    def _load(self, folder: Path, member: dict) -> torch.nn.Module:
        network = timm.create_model(member["architecture"], pretrained=False, num_classes=len(self.labels))
        network.load_state_dict(load_file(folder / member["weights"]))
        return network.eval().to(self.device, memory_format=torch.channels_last)

    @torch.inference_mode()
    def _forward(self, images: dict[int, np.ndarray]) -> np.ndarray:
        """(n, side, side, 3) uint8 by side to (n, labels) probabilities, averaged over views, and members by weight.

        Probabilities are averaged, not log-odds, which a single member that is sure and wrong would decide.
        """
        pixels = {side: torch.from_numpy(squares).to(self.device) for side, squares in images.items()}
        total = 0.0
        for member, network in zip(self.spec["members"], self.networks, strict=True):
            mean, std = (torch.tensor(member[key], device=self.device).view(3, 1, 1) for key in ("mean", "std"))
            # In place: large tensors that come and go leave holes in the heap, which grows by them.
            inputs = pixels[member["image_size"]].permute(0, 3, 1, 2).float().div_(255).sub_(mean).div_(std)
            for view in views(inputs, member["views"]):
                logits = network(view.contiguous(memory_format=torch.channels_last)).float()
                each = logits.sigmoid() if self.spec["multilabel"] else logits.softmax(dim=1)
                total = total + member["weight"] / member["views"] * each
        return total.cpu().numpy()


def decoded_batches(paths: Sequence[Path], sides: Sequence[int]) -> Iterator[list[list[np.ndarray] | ImageError]]:
    """Decode in threads, PREFETCH batches before they are asked for: of each image a square for every side."""

    def decode_or_error(path: Path) -> list[np.ndarray] | ImageError:
        try:
            return decode_squares(path, sides)[0]
        except ImageError as error:
            return error

    with ThreadPoolExecutor() as pool:
        ahead: deque[Iterator] = deque()
        for start in range(0, len(paths), BATCH_SIZE):
            ahead.append(pool.map(decode_or_error, paths[start : start + BATCH_SIZE]))
            if len(ahead) > PREFETCH:
                yield list(ahead.popleft())
        while ahead:
            yield list(ahead.popleft())


def predict_submission(bundle: Path, test_images: Path, sample_submission: Path) -> tuple[pd.DataFrame, list[str]]:
    """Predict the images that sample_submission.csv lists.

    Returns:
        The submission, in that file's order and columns; and what was wrong with images that could not be read.
    """
    predictor = Predictor(bundle)
    image_column, label_column = predictor.spec["image_column"], predictor.spec["label_column"]
    submission = pd.read_csv(sample_submission, dtype=str)
    probabilities, problems = predictor.probabilities([test_images / name for name in submission[image_column]])
    submission[label_column] = predictor.label_sets(probabilities)
    return submission, problems


def write_submission(bundle: Path, test_images: Path, sample_submission: Path, out: Path) -> None:
    """Write the submission, and say what it holds."""
    submission, problems = predict_submission(bundle, test_images, sample_submission)
    submission.to_csv(out, index=False)
    for problem in problems:
        print(f"unreadable, given the most frequent labels: {problem}")
    print(f"{out}: {len(submission)} rows, {len(problems)} unreadable")
    for labels, count in Counter(submission.iloc[:, -1]).most_common(12):
        print(f"{count:6d}  {labels}")


def versions() -> str:
    """Interpreter and libraries in one line; the first thing to look at when a kernel misbehaves."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    libraries = " ".join(f"{module.__name__} {module.__version__}" for module in (torch, timm, np, pd, PIL))
    return f"Python {platform.python_version()} {libraries}, {device}, {sys.platform}"
