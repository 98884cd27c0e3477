"""Ask how far test images differ from training images: can a small classifier tell them apart by a network's features?

It learns which images are test images (a classifier two-sample test; Lopez-Paz and Oquab, Revisiting Classifier
Two-Sample Tests, 2017). An AUC of 0.5 says that it cannot; one near 1 that a validation score, which is of images like
the training images, says little about the test images. The training images are of the fold that the network did not
train on: those that it knows look different for that reason alone.

`select` does this, because it has the network loaded, the folds, and the pixels; nothing else has all three.
"""

import base64
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from omegaconf import DictConfig
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from plant_pathology.competition.spec import Competition
from plant_pathology.core.files import read_json
from plant_pathology.data.shards import encode
from plant_pathology.inference.decode import ImageError, decode_squares
from plant_pathology.inference.predictor import BATCH_SIZE, Predictor
from plant_pathology.inference.tables import LayoutError
from plant_pathology.selection.bundle import weights_of
from plant_pathology.selection.choice import Choice
from plant_pathology.selection.record import SHIFTED
from plant_pathology.selection.verification import stored_squares
from plant_pathology.store.version import Version

FEWEST, MOST = 30, 200  # images of either kind; of fewer, the AUC is chance; more take time and say the same
SHOWN, SHOWN_SIDE = 12, 160  # test images that differ most; side of their thumbnails in pixels
PARTS = 5  # of the cross-validation
PENALTY = 0.01  # of the logistic regression (C), which has more features than images


def measure_shift(
    cfg: DictConfig, competition: Competition, choice: Choice, bundle: Path, version: Version
) -> dict[str, Any]:
    """Compare test images that are here with the training images of a fold that the first network was not trained on.

    Args:
        bundle: folder of the bundle.
        version: of the data, which holds the training images.

    Returns:
        auc, or None with the reason; train and test, the numbers of images; and images, the test images that differ
        most: image, probability of being one, and a thumbnail (a JPEG in base64).
    """
    member = choice.members[0][0]
    raw = Path(cfg.paths.raw)
    paths = [raw / name for name in test_images(competition, raw) if (raw / name).is_file()]
    names = choice.best.images[choice.best.fold == member.runs[0].fold]
    for count, what in ((len(paths), "test images"), (len(names), "training images in the fold")):
        if count < FEWEST:
            return without(f"there are {count} {what}, and {FEWEST} are needed")
    rng = np.random.default_rng(cfg.seed)
    names = names[some(len(names), rng)]
    paths = [paths[place] for place in some(len(paths), rng)]
    predictor = Predictor(bundle, half=False)
    if member.networks[0] is not member.runs[0]:
        # It was trained on all images, so none is new to it: take the network that left out the fold.
        predictor.networks[0].load_state_dict(weights_of(member.runs[0]))
    manifest = read_json(version.open("manifest.json"), "push the prepared data again")
    tested = dict(test_squares(paths, predictor, manifest))
    if len(tested) < FEWEST:
        return without(f"{len(tested)} of {len(paths)} test images can be read, and {FEWEST} are needed")
    squares = np.stack(list(tested.values()))
    features = np.concatenate([features_of(predictor, each) for each in (stored_squares(version, names), squares)])
    is_test = np.repeat([False, True], [len(names), len(tested)])
    probability = told_apart(features, is_test, cfg.seed)
    order = np.argsort(-probability[is_test], kind="stable")[:SHOWN].tolist()
    images = list(tested.items())
    return {
        "auc": round(float(roc_auc_score(is_test, probability)), 4),
        "reason": None,
        "train": len(names),
        "test": len(tested),
        "images": [
            {
                "image": images[each][0].relative_to(raw).as_posix(),
                "probability": round(float(probability[is_test][each]), 4),
                "jpeg": thumbnail(images[each][1]),
            }
            for each in order
        ],
    }


def without(reason: str) -> dict[str, Any]:
    return {"auc": None, "reason": reason, "train": 0, "test": 0, "images": []}


def message_of(shift: dict[str, Any]) -> str:
    """Return what `select` prints."""
    if shift["auc"] is None:
        return f"test images are not compared with training images: {shift['reason']}"
    counts = f"{shift['test']} test images and {shift['train']} training images"
    told = f"a classifier tells {counts} apart with an AUC of {shift['auc']:.2f} (0.5: not at all)"
    if shift["auc"] <= SHIFTED:
        return told
    return (
        f"warning: {told}, more than {SHIFTED:g}: the score is of images like the training images, so expect another"
        " one on Kaggle; the report shows the test images that differ most"
    )


def test_images(competition: Competition, raw: Path) -> list[str]:
    """Return the paths of the form's images; none where there is no form, or it is not as the config says."""
    try:
        return competition.test.read(raw).images
    except LayoutError:
        return []


def some(count: int, rng: np.random.Generator) -> np.ndarray:
    """Return up to MOST places of so many, in their order."""
    return np.sort(rng.permutation(count)[:MOST])


def test_squares(
    paths: Iterable[Path], predictor: Predictor, manifest: dict[str, Any]
) -> Iterable[tuple[Path, np.ndarray]]:
    """Yield the images that can be read, encoded and decoded as shards hold training images: else that would tell."""
    for path in paths:
        try:
            (square,), _ = decode_squares(path, [manifest["image_size"]], predictor.opener)
        except ImageError:
            continue
        if manifest["encoding"] != "raw":
            row = np.frombuffer(encode(square, manifest["encoding"], manifest["quality"]), np.uint8)
            square = np.asarray(cv2.imdecode(row, cv2.IMREAD_COLOR_RGB))
        yield path, square


@torch.inference_mode()
def features_of(predictor: Predictor, images: np.ndarray) -> np.ndarray:
    """Return what the bundle's first network computes before its last layer, (n, features).

    Args:
        images: (n, side, side, 3) uint8.
    """
    network, member, device = predictor.networks[0], predictor.spec["members"][0], predictor.device
    mean, std = (torch.tensor(member[key], device=device).view(3, 1, 1) for key in ("mean", "std"))
    heads: Any = network.get_classifier()  # type: ignore[operator]  # of every network of timm
    seen: list[torch.Tensor] = []
    hook = (heads[0] if isinstance(heads, tuple | list) else heads).register_forward_pre_hook(
        lambda layer, inputs: seen.append(inputs[0])
    )
    found = []
    for start in range(0, len(images), BATCH_SIZE):
        pixels = torch.from_numpy(images[start : start + BATCH_SIZE]).to(device).permute(0, 3, 1, 2).float() / 255
        logits = network((pixels - mean) / std)
        found.append((seen.pop() if seen else logits).flatten(1).cpu().numpy())
    hook.remove()
    return np.concatenate(found)


def told_apart(features: np.ndarray, is_test: np.ndarray, seed: int) -> np.ndarray:
    """Return each image's probability of being a test image, by classifiers that were not trained on it, (n,)."""
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=PENALTY, class_weight="balanced", max_iter=1000))
    parts = StratifiedKFold(PARTS, shuffle=True, random_state=seed)
    return cross_val_predict(classifier, features, is_test, cv=parts, method="predict_proba")[:, 1]


def thumbnail(image: np.ndarray) -> str:
    """Return an image as a small JPEG, in base64."""
    if len(image) > SHOWN_SIDE:
        image = cv2.resize(image, (SHOWN_SIDE, SHOWN_SIDE), interpolation=cv2.INTER_AREA)
    return base64.b64encode(encode(image, "jpeg", 85)).decode()
