"""Predict a submission from a bundle and the test images: this is all that the kernel runs.

Imports nothing of ours outside `inference`, and only packages that Kaggle's image has: torch, timm, safetensors, NumPy,
pandas, Pillow and tqdm.
"""

import platform
import sys
import tempfile
import zipfile
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import PIL
import timm
import torch
from safetensors.torch import load_file
from tqdm import tqdm

from plant_pathology.inference.answers import Answers, Cells
from plant_pathology.inference.bundle import read_bundle
from plant_pathology.inference.custom import BUNDLED, image_opener
from plant_pathology.inference.decision import Decision
from plant_pathology.inference.decode import ImageError, Opener, decode_squares
from plant_pathology.inference.half_precision import MAX_CHANGED, REFERENCE, changed_share, read_reference
from plant_pathology.inference.outputs import outputs
from plant_pathology.inference.tables import LayoutError, root_of
from plant_pathology.inference.test_set import TestSet
from plant_pathology.inference.tta import views

BATCH_SIZE = 32
# Number of batches to decode in advance, one for each GPU that predicts. A CPU decodes and predicts in turn: each uses
# all cores, and at the same time they slow each other down.
PREFETCH = torch.cuda.device_count()


class Predictor:
    """Load a bundle that `select` wrote: networks, preprocessing and decision rule.

    Args:
        folder: the bundle: bundle.json, and one .safetensors file per network.
        devices: torch's names of the devices that predict, each with networks of its own; by default all GPUs, or the
            CPU. They take batches in turn, so the outputs are those of one device.
        half: predict in half precision where `bears_half` says so; by default on GPUs.

    Raises:
        BundleError: a file of the bundle is missing or damaged.
    """

    def __init__(self, folder: Path, devices: Sequence[str] | None = None, half: bool | None = None):
        self.spec = read_bundle(folder)
        decision = self.spec["decision"]
        self.decision = Decision(decision["by"], np.array(decision["values"]), decision["empty"])
        self.answers = Answers(**self.spec["answers"])
        self.fallback = np.array(self.spec["fallback"])
        self.opener = image_opener(folder / BUNDLED if BUNDLED in self.spec["files"] else None)
        self.device, *others = map(torch.device, devices or gpus() or ["cpu"])
        self.networks = self._load(folder, self.device)
        self.more_devices = [(device, self._load(folder, device)) for device in others]
        self.sides = sorted({member["image_size"] for member in self.spec["members"]})
        self.half = False  # until it is tried
        if (self.device.type == "cuda" if half is None else half) and REFERENCE in self.spec["files"]:
            self.half = self.bears_half(read_reference(folder))

    def bears_half(self, reference: np.ndarray) -> bool:
        """Return whether half precision decides nearly all reference images as full precision does; print the share.

        Args:
            reference: (n, side, side, 3) uint8, of the size of the networks.
        """
        images = {reference.shape[1]: reference}
        full, half = (self._forward(images, self.device, self.networks, half) for half in (False, True))
        share = changed_share(self.decision, full, half, self.spec["scale"]["std"] if self.spec["scale"] else 1.0)
        bears = share <= MAX_CHANGED
        print(
            f"half precision changes {share:.1%} of the decisions on {len(reference)} reference images, where"
            f" {MAX_CHANGED:.0%} are allowed: predicts in {'half' if bears else 'full'} precision",
            flush=True,
        )
        return bears

    def cells(self, paths: Sequence[Path], columns: list[str]) -> tuple[Cells, list[str]]:
        """Predict all images, batch by batch, so that memory grows with neither their number nor that of the labels.

        Args:
            paths: of the images.
            columns: of the form, to fill in.

        Returns:
            The cells of the submission by column, those of the bundle's fallback for an image that cannot be read; and
            one message for each of those images.
        """
        cells: Cells = {column: [] for column in columns}
        fallback = self.answers.cells(self.fallback, columns)
        problems: list[str] = []
        for errors, predicted in self.outputs(paths):
            problems += [str(error) for error in errors if error]
            answers = self.answers.cells(self.decision.decide(predicted), columns) if len(predicted) else fallback
            for column, rows in cells.items():
                read = iter(answers[column])
                rows += [fallback[column][0] if error else next(read) for error in errors]
        return cells, problems

    def outputs(self, paths: Sequence[Path]) -> Iterator[tuple[list[ImageError | None], np.ndarray]]:
        """Predict batch by batch.

        Yields:
            For each image of the batch its error, or None; and the outputs, (images without error, outputs) float32.
        """
        chunks = [paths[start : start + BATCH_SIZE] for start in range(0, len(paths), BATCH_SIZE)]
        bar = tqdm(decoded_batches(paths, self.sides, self.opener), "predict", len(chunks), unit="batch", disable=None)
        batches = zip(bar, chunks, strict=True)
        if not self.more_devices:
            for batch, chunk in batches:
                yield self._predict(batch, chunk, self.device, self.networks)
            return
        places = [(self.device, self.networks), *self.more_devices]
        with ThreadPoolExecutor(len(places)) as pool:
            running: deque[Future] = deque()
            for number, (batch, chunk) in enumerate(batches):
                if len(running) == len(places):  # the oldest batch is on the device whose turn it is
                    yield running.popleft().result()
                running.append(pool.submit(self._predict, batch, chunk, *places[number % len(places)]))
            while running:
                yield running.popleft().result()

    def _predict(
        self,
        batch: list[list[np.ndarray] | ImageError],
        paths: Sequence[Path],
        device: torch.device,
        networks: list[torch.nn.Module],
    ) -> tuple[list[ImageError | None], np.ndarray]:
        """Predict a decoded batch on a device with the networks that are there.

        A batch with numbers that are not finite in half precision is predicted in full precision; an image for which
        that gives none either counts as unreadable. Else it would get the first label without a word.

        Args:
            paths: of its images.
        """
        errors = [image if isinstance(image, ImageError) else None for image in batch]
        squares = [image for image in batch if not isinstance(image, ImageError)]
        if not squares:
            return errors, np.zeros((0, self.spec["outputs"]), np.float32)
        by_side = {side: np.stack(images) for side, *images in zip(self.sides, *squares, strict=True)}
        predicted = self._forward(by_side, device, networks, self.half)
        if self.half and not np.isfinite(predicted).all():
            predicted = self._forward(by_side, device, networks, half=False)
        finite = np.isfinite(predicted).all(axis=1)
        read = np.array([place for place, error in enumerate(errors) if error is None])
        for place in read[~finite].tolist():
            errors[place] = ImageError(paths[place], "the networks give no finite numbers for it")
        return errors, predicted[finite]

    def _load(self, folder: Path, device: torch.device) -> list[torch.nn.Module]:
        """Return the bundle's networks on a device."""
        networks = []
        for member in self.spec["members"]:
            arguments = {"num_classes": self.spec["outputs"], **member.get("arguments", {})}
            network = timm.create_model(member["architecture"], pretrained=False, **arguments)
            network.load_state_dict(load_file(folder / member["weights"]))
            network = network.eval().to(device)
            networks.append(network.to(memory_format=torch.channels_last))  # type: ignore[call-overload]  # no stub
        return networks

    @torch.inference_mode()
    def _forward(
        self, images: dict[int, np.ndarray], device: torch.device, networks: list[torch.nn.Module], half: bool
    ) -> np.ndarray:
        """Return the ensemble's (n, labels) outputs: the members' weighted mean, each averaged over its views.

        Probabilities are averaged, not log-odds: of these, one confident and wrong member would dominate the mean.

        Args:
            images: the same images by side in pixels, each (n, side, side, 3) uint8.
            half: predict in 16 bits.
        """
        pixels = {side: torch.from_numpy(squares).to(device) for side, squares in images.items()}
        total = torch.zeros(len(next(iter(images.values()))), self.spec["outputs"], device=device)
        for member, network in zip(self.spec["members"], networks, strict=True):
            for predicted in self._views(member, network, pixels[member["image_size"]], half):
                total = total + member["weight"] / member["views"] * predicted
        return total.cpu().numpy()

    @torch.inference_mode()
    def predict_member(self, number: int, squares: np.ndarray) -> np.ndarray:
        """Return the (n, outputs) outputs of one network, averaged over its views.

        Args:
            number: its place in the bundle.
            squares: (n, side, side, 3) uint8.
        """
        member = self.spec["members"][number]
        first, *others = self._views(
            member, self.networks[number], torch.from_numpy(squares).to(self.device), self.half
        )
        return (sum(others, start=first) / member["views"]).cpu().numpy()

    def _views(
        self, member: dict, network: torch.nn.Module, pixels: torch.Tensor, half: bool
    ) -> Iterator[torch.Tensor]:
        """Yield a network's outputs for each view of the images, (n, outputs)."""
        mean, std = (torch.tensor(member[key], device=pixels.device).view(3, 1, 1) for key in ("mean", "std"))
        # In place, because allocating large temporary tensors fragments the heap, and memory grows.
        inputs = pixels.permute(0, 3, 1, 2).float().div_(255).sub_(mean).div_(std)
        for view in views(inputs, member["views"]):
            with torch.autocast(pixels.device.type, torch.float16, enabled=half):
                logits = network(view.contiguous(memory_format=torch.channels_last))
            logits = logits.float()
            # An infinite logit is a probability of 1, which would pass for an answer.
            finite = torch.where(logits.isfinite(), logits, torch.nan)
            yield outputs(finite, self.spec["kind"], self.spec["scale"])


def gpus() -> list[str]:
    """Return torch's names of the GPUs, such as both T4s of Kaggle's NvidiaTeslaT4."""
    return [f"cuda:{number}" for number in range(torch.cuda.device_count())]


def decoded_batches(
    paths: Sequence[Path], sides: Sequence[int], opener: Opener
) -> Iterator[list[list[np.ndarray] | ImageError]]:
    """Decode in threads, PREFETCH batches in advance.

    Yields:
        Per batch a list with one entry per image: one square for every side, or the error.
    """

    def decode_or_error(path: Path) -> list[np.ndarray] | ImageError:
        try:
            return decode_squares(path, sides, opener)[0]
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


def predict_submission(bundle: Path, competition: Path, first: int | None = None) -> tuple[pd.DataFrame, list[str]]:
    """Predict the images that the competition's form asks for.

    Args:
        bundle: folder that `select` wrote.
        competition: folder of the competition, as Kaggle ships it.
        first: predict only so many rows of the form.

    Returns:
        The submission, with the form's rows and columns; and one message per image that could not be read.

    Raises:
        LayoutError: the form is not as the bundle's competition has it.
    """
    predictor = Predictor(bundle)
    form = TestSet(**predictor.spec["test"]).read(competition)
    if problem := predictor.answers.problem(form.answers):
        raise LayoutError(f"{competition / predictor.spec['test']['form']}: {problem}")
    submission = form.table.head(len(form.table) if first is None else first).copy()
    with unpacked_images(competition, predictor.spec["test"]["files"]) as folder:
        cells, problems = predictor.cells([folder / image for image in form.images[: len(submission)]], form.answers)
    for column, rows in cells.items():
        submission[column] = rows
    return submission, problems


@contextmanager
def unpacked_images(competition: Path, files: str) -> Iterator[Path]:
    """Yield the folder in which the test images' paths begin.

    Some competitions ship test images as an archive, test.zip for the folder test, which is still packed in a kernel's
    input. It is unpacked into a temporary folder.

    Args:
        files: template of the test images' paths.
    """
    top = root_of(files).partition("/")[0]
    archive = competition / f"{top}.zip"
    if (competition / top).is_dir() or not top or not archive.is_file():
        yield competition
        return
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(archive) as content:
        with_top = all(name.startswith(f"{top}/") for name in content.namelist())
        content.extractall(folder if with_top else Path(folder) / top)
        yield Path(folder)


def write_submission(bundle: Path, competition: Path, out: Path) -> tuple[pd.DataFrame, list[str]]:
    """Write the submission to `out`, print unreadable images, and return what `predict_submission` returns."""
    submission, problems = predict_submission(bundle, competition)
    submission.to_csv(out, index=False)
    for problem in problems:
        print(f"unreadable, gets the most frequent answer: {problem}")
    return submission, problems


def versions() -> str:
    """Return the versions of Python and libraries in one line: the first thing to check when a kernel misbehaves."""
    device = ", ".join(map(torch.cuda.get_device_name, gpus())) or "no GPU"
    libraries = " ".join(f"{module.__name__} {module.__version__}" for module in (torch, timm, np, pd, PIL))
    return f"Python {platform.python_version()} {libraries}, {device}, {sys.platform}"
