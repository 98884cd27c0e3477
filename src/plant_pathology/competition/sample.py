"""Draw a synthetic competition in Kaggle's raw layout, so that the whole pipeline runs without a download.

The leaves have the six labels of Plant Pathology 2021 in its proportions, and the defects of real data: several labels
per leaf, the same picture twice with contradictory labels, photographs rotated by EXIF, in gray and CMYK, and a PNG
named .jpg. A small network learns them in minutes; its score says nothing about real photographs. Equal seeds give
equal bytes.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from omegaconf import DictConfig
from PIL import Image, ImageDraw, ImageFilter
from tqdm import tqdm

from plant_pathology.competition.spec import Competition
from plant_pathology.core.errors import UserError
from plant_pathology.core.files import atomic_folder

TABLE = "train.csv"
LONG, SHORT = 192, 128
DEFECTS = ["twin"] * 4 + ["sideways"] * 6 + ["gray"] * 2 + ["cmyk", "png"]

# Frequency of each label set in 4,000 rows of the real train.csv.
LABEL_SETS = {
    "scab": 1031,
    "healthy": 988,
    "frog_eye_leaf_spot": 680,
    "rust": 407,
    "complex": 348,
    "powdery_mildew": 253,
    "scab frog_eye_leaf_spot": 147,
    "scab frog_eye_leaf_spot complex": 43,
    "frog_eye_leaf_spot complex": 35,
    "rust frog_eye_leaf_spot": 25,
    "rust complex": 24,
    "powdery_mildew complex": 19,
}


Place = Callable[[np.ndarray, np.ndarray], list[tuple[float, float]]]  # leaf coordinates to pixels


def make_sample(cfg: DictConfig) -> None:
    """Draw the sample into `paths.raw`, unless there is a train.csv already.

    Raises:
        UserError: the competition is a real one.
    """
    competition = Competition.from_config(cfg)
    if not competition.synthetic:
        raise UserError(
            f"competition={competition.name} is a real one: download it ({competition.download}), or choose"
            " competition=sample"
        )
    raw = Path(cfg.paths.raw)
    if (raw / TABLE).exists():
        print(f"{raw}: exists already")
        return
    draw(raw, cfg.seed)
    print(f"{raw}: drawn leaves in the layout of a Kaggle competition; not real images")


def draw(folder: Path, seed: int, train: int = 400, test: int = 60) -> None:
    """Write train.csv, train_images/, test_images/ and sample_submission.csv into `folder`, atomically.

    Args:
        folder: replaced by the drawn competition.
        seed: equal seeds give equal bytes.
        train: number of training pictures without twins; with 14 or more, every defect and label set occurs.
        test: number of test pictures.
    """
    rng = np.random.default_rng(seed)
    with atomic_folder(folder) as work:
        (work / "train_images").mkdir()
        (work / "test_images").mkdir()
        rows = []
        for number in tqdm(range(train + test), "sample", unit="img", disable=None):
            name, labels = f"{rng.bytes(8).hex()}.jpg", label_set(number, rng)
            defect = DEFECTS[number] if number < len(DEFECTS) else None
            image = photograph(labels.split(), rng)
            if number >= train:
                save(image, work / "test_images" / name, None)
                rows.append((name, "healthy"))
                continue
            save(image, work / "train_images" / name, defect)
            rows.append((name, labels))
            if defect == "twin":
                twin = f"{rng.bytes(8).hex()}.jpg"
                save(image, work / "train_images" / twin, defect)
                rows.append((twin, "healthy" if labels != "healthy" else "scab"))
        twins = DEFECTS.count("twin")
        for table, name in ((rows[: train + twins], TABLE), (rows[train + twins :], "sample_submission.csv")):
            pd.DataFrame(sorted(table), columns=["image", "labels"]).to_csv(work / name, index=False)


def label_set(number: int, rng: np.random.Generator) -> str:
    """Choose a picture's labels: every set once, rarest first, then at random by frequency."""
    sets = list(LABEL_SETS)
    if number < len(sets):
        return sets[-1 - number]
    counts = np.array(list(LABEL_SETS.values()))
    return sets[rng.choice(len(sets), p=counts / counts.sum())]


def save(image: Image.Image, path: Path, defect: str | None) -> None:
    if defect == "sideways":
        exif = Image.Exif()
        exif[0x0112] = 6  # orientation: viewers turn it upright
        image.rotate(90, expand=True).save(path, "JPEG", quality=85, exif=exif)
    elif defect == "png":
        image.save(path, "PNG")
    else:
        image.convert({"gray": "L", "cmyk": "CMYK"}.get(defect or "", "RGB")).save(path, "JPEG", quality=85)


def photograph(labels: list[str], rng: np.random.Generator) -> Image.Image:
    """Draw a leaf with its diseases in front of a blurred background."""
    size = (LONG, SHORT) if rng.random() < 0.8 else (SHORT, LONG)
    ground = np.array([[96, 78, 58], [150, 170, 190], [52, 74, 40], [120, 116, 100]])[rng.integers(4)]
    picture = clouds(size, ground, 28, rng)
    pen = ImageDraw.Draw(picture)
    for _ in range(rng.integers(2, 5)):
        ends = rng.uniform(0, 1, (2, 2)) * size
        pen.line([tuple(end) for end in ends], tuple(rng.integers(50, 110, 3)), width=int(rng.integers(2, 6)))
    angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(0.40, 0.52) * LONG * 0.85
    center = np.array(size) / 2 + rng.uniform(-8, 8, 2)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])

    def place(along: np.ndarray, across: np.ndarray) -> list[tuple[float, float]]:
        """Map leaf coordinates (-1 to 1 from tip to stalk, and from margin to margin) to pixels."""
        width = 0.62 * np.maximum(1 - along**2, 0) ** 0.75 * (1 - 0.2 * along)
        return [tuple(point) for point in np.stack([along, across * width], axis=1) * length @ turn + center]

    blade = clouds(size, np.array([70, 128, 44]) + rng.integers(-16, 17, 3), 22, rng)
    veins = ImageDraw.Draw(blade)
    for base in np.linspace(-0.7, 0.8, 8):
        for side in (-0.9, 0.9):
            veins.line(place(np.array([base, base - 0.2]), np.array([0, side])), (98, 150, 70), width=1)
    veins.line(place(np.linspace(-0.95, 1, 12), np.zeros(12)), (122, 168, 90), width=2)
    for label in labels:
        if label != "healthy":
            LESIONS[label](blade, place, rng)
    outline = np.linspace(-1, 1, 60)
    teeth = 1 + 0.03 * np.sin(outline * 70)
    mask = Image.new("L", size, 0)
    margin = place(outline, teeth) + place(outline[::-1], -teeth)
    ImageDraw.Draw(mask).polygon(margin, fill=255)
    picture.paste(blade, mask=mask.filter(ImageFilter.GaussianBlur(0.8)))
    pixels = np.asarray(picture, np.float32) * rng.uniform(0.75, 1.2) + rng.normal(0, 5, (size[1], size[0], 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def clouds(size: tuple[int, int], color: np.ndarray, strength: float, rng: np.random.Generator) -> Image.Image:
    """Draw a color that varies slowly over the picture."""
    rough = color + rng.normal(0, strength, (5, 6, 1)) + rng.normal(0, strength / 4, (5, 6, 3))
    small = Image.fromarray(rough.clip(0, 255).astype(np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC)


def spots(place: Place, rng: np.random.Generator, count: int, reach: float = 0.8) -> list[tuple[float, float]]:
    """Choose random points on the leaf blade, in pixels."""
    return place(rng.uniform(-0.75, 0.75, count), rng.uniform(-reach, reach, count))


def disc(
    pen: ImageDraw.ImageDraw, center: tuple[float, float], radius: float, color: int | tuple[int, int, int]
) -> None:
    x, y = center
    pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=color)


def scab(blade: Image.Image, place: Place, rng: np.random.Generator) -> None:
    """Draw olive-black blotches with ragged margins."""
    pen = ImageDraw.Draw(blade)
    for x, y in spots(place, rng, int(rng.integers(7, 13))):
        for _ in range(9):
            shade = int(rng.integers(28, 52))
            disc(pen, (x + rng.normal(0, 3.2), y + rng.normal(0, 3.2)), rng.uniform(1.2, 3.2), (shade + 8, shade, 18))


def rust(blade: Image.Image, place: Place, rng: np.random.Generator) -> None:
    """Draw orange spots with yellow halos."""
    pen = ImageDraw.Draw(blade)
    for center in spots(place, rng, int(rng.integers(6, 12))):
        radius = rng.uniform(3, 5)
        disc(pen, center, radius * 1.5, (206, 188, 52))
        disc(pen, center, radius, (226, 112, 24))
        disc(pen, center, radius * 0.3, (120, 40, 16))


def frog_eye_leaf_spot(blade: Image.Image, place: Place, rng: np.random.Generator) -> None:
    """Draw round tan spots with a purple ring and a pale center."""
    pen = ImageDraw.Draw(blade)
    for center in spots(place, rng, int(rng.integers(5, 10))):
        radius = rng.uniform(3.5, 6)
        disc(pen, center, radius, (84, 36, 62))
        disc(pen, center, radius * 0.72, (158, 112, 70))
        disc(pen, center, radius * 0.3, (216, 196, 166))


def powdery_mildew(blade: Image.Image, place: Place, rng: np.random.Generator) -> None:
    """Draw a whitish film in patches."""
    film = Image.new("L", blade.size, 0)
    pen = ImageDraw.Draw(film)
    for center in spots(place, rng, 16):
        disc(pen, center, rng.uniform(5, 13), int(rng.integers(110, 210)))
    blade.paste((222, 226, 216), mask=film.filter(ImageFilter.GaussianBlur(4)))


def complex_(blade: Image.Image, place: Place, rng: np.random.Generator) -> None:
    """Draw brown, dying margins and large dead patches."""
    dead = Image.new("L", blade.size, 0)
    pen = ImageDraw.Draw(dead)
    side = rng.choice([-1, 1])
    for along in rng.uniform(-0.9, 0.9, 9):
        disc(pen, place(np.array([along]), np.array([side * rng.uniform(0.75, 1.1)]))[0], rng.uniform(6, 14), 230)
    for center in spots(place, rng, 3):
        disc(pen, center, rng.uniform(5, 10), 220)
    blade.paste((112, 76, 40), mask=dead.filter(ImageFilter.GaussianBlur(2)))


LESIONS = {
    "scab": scab,
    "rust": rust,
    "frog_eye_leaf_spot": frog_eye_leaf_spot,
    "powdery_mildew": powdery_mildew,
    "complex": complex_,
}
