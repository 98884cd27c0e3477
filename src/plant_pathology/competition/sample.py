"""The embedded sample: a drawn competition in Kaggle's raw layout, so that everything runs before any download.

Leaves with the six labels of Plant Pathology 2021 in its proportions, and with the warts of real data: several labels
a leaf, the same picture twice with contradictory labels, sideways, grey and CMYK photographs, a PNG that calls itself
.jpg. A small network learns it in minutes; what it scores says nothing about photographs. Equal seeds, equal bytes.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from omegaconf import DictConfig
from PIL import Image, ImageDraw, ImageFilter
from tqdm import tqdm

from plant_pathology.competition.spec import Competition
from plant_pathology.core.errors import UserError
from plant_pathology.core.files import atomic_folder

LONG, SHORT = 192, 128
WARTS = ["twin"] * 4 + ["sideways"] * 6 + ["grey"] * 2 + ["cmyk", "png"]

# How often each label set stands among 4,000 rows of the real train.csv.
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


def make_sample(cfg: DictConfig) -> None:
    competition = Competition.from_config(cfg)
    if not competition.synthetic:
        raise UserError(f"competition={competition.name} is not drawn but downloaded: make download")
    raw = Path(cfg.paths.raw)
    if (raw / competition.train_csv).exists():
        print(f"{raw}: there already")
        return
    draw(raw, competition, cfg.seed)
    print(f"{raw}: drawn leaves in the layout of a Kaggle competition; not real images")


def draw(folder: Path, competition: Competition, seed: int, train: int = 400, test: int = 60) -> None:
    """Write train.csv, train_images/, test_images/ and sample_submission.csv into `folder`, whole or not at all.

    Args:
        train, test: number of pictures; from 14 training pictures on, every wart and label set is there. The twins of
            those that are there twice come on top.
    """
    rng = np.random.default_rng(seed)
    columns = [competition.image_column, competition.label_column]
    with atomic_folder(folder) as work:
        (work / competition.train_images).mkdir()
        (work / competition.test_images).mkdir()
        rows = []
        for number in tqdm(range(train + test), "sample", unit="img", disable=None):
            name, labels = f"{rng.bytes(8).hex()}.jpg", label_set(number, rng)
            wart = WARTS[number] if number < len(WARTS) else None
            image = photograph(labels.split(), rng)
            if number >= train:
                save(image, work / competition.test_images / name, None)
                rows.append((name, "healthy"))
                continue
            save(image, work / competition.train_images / name, wart)
            rows.append((name, labels))
            if wart == "twin":
                twin = f"{rng.bytes(8).hex()}.jpg"
                save(image, work / competition.train_images / twin, wart)
                rows.append((twin, "healthy" if labels != "healthy" else "scab"))
        twins = WARTS.count("twin")
        for table, name in ((rows[: train + twins], "train_csv"), (rows[train + twins :], "sample_submission")):
            pd.DataFrame(sorted(table), columns=columns).to_csv(work / getattr(competition, name), index=False)


def label_set(number: int, rng: np.random.Generator) -> str:
    """Every set once, rarest first, then by their frequency."""
    sets = list(LABEL_SETS)
    if number < len(sets):
        return sets[-1 - number]
    counts = np.array(list(LABEL_SETS.values()))
    return sets[rng.choice(len(sets), p=counts / counts.sum())]


def save(image: Image.Image, path: Path, wart: str | None) -> None:
    if wart == "sideways":
        exif = Image.Exif()
        exif[0x0112] = 6  # the viewer turns it upright
        image.rotate(90, expand=True).save(path, "JPEG", quality=85, exif=exif)
    elif wart == "png":
        image.save(path, "PNG")
    else:
        image.convert({"grey": "L", "cmyk": "CMYK"}.get(wart, "RGB")).save(path, "JPEG", quality=85)


def photograph(labels: list[str], rng: np.random.Generator) -> Image.Image:
    """A leaf with its diseases in front of something."""
    size = (LONG, SHORT) if rng.random() < 0.8 else (SHORT, LONG)
    ground = np.array([[96, 78, 58], [150, 170, 190], [52, 74, 40], [120, 116, 100]])[rng.integers(4)]
    picture = clouds(size, ground, 28, rng)
    pen = ImageDraw.Draw(picture)
    for _ in range(rng.integers(2, 5)):
        ends = rng.uniform(0, 1, (2, 2)) * size
        pen.line([tuple(end) for end in ends], tuple(rng.integers(50, 110, 3)), width=int(rng.integers(2, 6)))
    angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(0.40, 0.52) * LONG * 0.85
    centre = np.array(size) / 2 + rng.uniform(-8, 8, 2)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])

    def place(along: np.ndarray, across: np.ndarray) -> list[tuple[float, float]]:
        """Leaf coordinates (tip to stalk is -1 to 1, margin to margin too) to pixels."""
        width = 0.62 * np.maximum(1 - along**2, 0) ** 0.75 * (1 - 0.2 * along)
        return [tuple(point) for point in np.stack([along, across * width], axis=1) * length @ turn + centre]

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
    """A colour that varies slowly over the picture."""
    rough = color + rng.normal(0, strength, (5, 6, 1)) + rng.normal(0, strength / 4, (5, 6, 3))
    small = Image.fromarray(rough.clip(0, 255).astype(np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC)


def spots(place, rng: np.random.Generator, count: int, reach: float = 0.8) -> list[tuple[float, float]]:
    """Centres spread over the blade, in pixels."""
    return place(rng.uniform(-0.75, 0.75, count), rng.uniform(-reach, reach, count))


def disc(pen: ImageDraw.ImageDraw, centre: tuple[float, float], radius: float, color: tuple[int, int, int]) -> None:
    x, y = centre
    pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=color)


def scab(blade: Image.Image, place, rng: np.random.Generator) -> None:
    """Olive-black blotches with ragged margins."""
    pen = ImageDraw.Draw(blade)
    for x, y in spots(place, rng, rng.integers(7, 13)):
        for _ in range(9):
            shade = int(rng.integers(28, 52))
            disc(pen, (x + rng.normal(0, 3.2), y + rng.normal(0, 3.2)), rng.uniform(1.2, 3.2), (shade + 8, shade, 18))


def rust(blade: Image.Image, place, rng: np.random.Generator) -> None:
    """Orange spots in yellow haloes."""
    pen = ImageDraw.Draw(blade)
    for centre in spots(place, rng, rng.integers(6, 12)):
        radius = rng.uniform(3, 5)
        disc(pen, centre, radius * 1.5, (206, 188, 52))
        disc(pen, centre, radius, (226, 112, 24))
        disc(pen, centre, radius * 0.3, (120, 40, 16))


def frog_eye_leaf_spot(blade: Image.Image, place, rng: np.random.Generator) -> None:
    """Round tan spots in a purple ring, with a pale eye."""
    pen = ImageDraw.Draw(blade)
    for centre in spots(place, rng, rng.integers(5, 10)):
        radius = rng.uniform(3.5, 6)
        disc(pen, centre, radius, (84, 36, 62))
        disc(pen, centre, radius * 0.72, (158, 112, 70))
        disc(pen, centre, radius * 0.3, (216, 196, 166))


def powdery_mildew(blade: Image.Image, place, rng: np.random.Generator) -> None:
    """A whitish film in patches."""
    film = Image.new("L", blade.size, 0)
    pen = ImageDraw.Draw(film)
    for centre in spots(place, rng, 16):
        disc(pen, centre, rng.uniform(5, 13), int(rng.integers(110, 210)))
    blade.paste((222, 226, 216), mask=film.filter(ImageFilter.GaussianBlur(4)))


def complex_(blade: Image.Image, place, rng: np.random.Generator) -> None:
    """Brown, dying margins and large dead patches."""
    dead = Image.new("L", blade.size, 0)
    pen = ImageDraw.Draw(dead)
    side = rng.choice([-1, 1])
    for along in rng.uniform(-0.9, 0.9, 9):
        disc(pen, place(np.array([along]), np.array([side * rng.uniform(0.75, 1.1)]))[0], rng.uniform(6, 14), 230)
    for centre in spots(place, rng, 3):
        disc(pen, centre, rng.uniform(5, 10), 220)
    blade.paste((112, 76, 40), mask=dead.filter(ImageFilter.GaussianBlur(2)))


LESIONS = {
    "scab": scab,
    "rust": rust,
    "frog_eye_leaf_spot": frog_eye_leaf_spot,
    "powdery_mildew": powdery_mildew,
    "complex": complex_,
}
