"""The report: one self-contained page about any sweep, made from the files of its selection and runs."""

import base64
import itertools
import json
import re
import shutil
import warnings
from html.parser import HTMLParser

import cv2
import numpy as np
import pandas as pd
import pytest

from plant_pathology.competition.metrics import label_counts
from plant_pathology.core.hashes import file_hash
from plant_pathology.core.plotting import COLORS, MUTED, SOFT
from plant_pathology.core.provenance import commit
from plant_pathology.core.sealed import write_sealed
from plant_pathology.data.predictions import Predictions, write_predictions
from plant_pathology.kernel.package import folder_hashes
from plant_pathology.reporting.error_analysis import class_errors, label_errors, losses, set_matrix, set_names
from plant_pathology.reporting.figures import draw_sets
from plant_pathology.reporting.page import extreme_labels
from plant_pathology.selection.axes import flatten_configs, map_axes
from plant_pathology.selection.record import write_record
from plant_pathology.selection.tables import label_texts
from plant_pathology.store.folder import FolderBackend
from plant_pathology.store.store import Store
from support.commands import PROJECT, TINY, git, run_module
from support.prepared import leaves, picture, prepare
from support.small_runs import finish

LABELS = ["<script>alert(1)</script>", "scab"]
IMAGES = 40
REASON = "CUDA out of memory <b>"
COMMAND = [
    "competition=sample",
    "competition.target.labels=['<script>alert(1)</script>',scab]",
]


MADE_FOR = {"name": "sample", "target.kind": "several", "metric": "sample_f1", "target.labels": LABELS}


def config(model="resnet18", lr=1e-3, **others):
    data = {"fold": 0, "batch_size": 32, "augment": {"crop": 0.7}}
    settings = {"seed": 1, "model": {"name": model, "lr": lr}, "trainer": {"max_epochs": 3}, "data": data}
    settings["competition"] = {"name": "sample", "metric": "sample_f1", "kind": "several"}
    for key, value in others.items():
        (data["augment"] if key == "crop" else data)[key] = value
    return settings


def write_run(folder, settings, version, f1, stopped=None, failure=None):
    folder.mkdir(parents=True)
    identity = {"config": settings, "data": version.sha256, "code": "c0de"}
    known = {"run": folder.name, "data_ref": version.ref, **identity}
    epochs = pd.DataFrame(
        {"epoch": range(3), "val_sample_f1": f1, "val_score": f1, "val_loss": 0.4, "train_loss": 0.5, "seconds": 60.0}
    )
    epochs.to_csv(folder / "metrics.csv", index=False)
    if failure:
        write_sealed(folder / "run.json", known)
        (folder / "failure.txt").write_text(f"Traceback\n{failure}\n")
    else:
        finish(folder, known | {"score": f1, "stopped": stopped})


def predictions():
    """All predictions are right but images 4 to 9: 4 is wrong with high confidence, 5 to 9 with falling confidence."""
    true = np.array([[number % 2, 1 - number % 2] for number in range(IMAGES)])
    probabilities = np.where(true == 1, 0.9, 0.1)
    for row, confidence in zip(range(4, 10), (0.99, 0.45, 0.44, 0.43, 0.42, 0.41), strict=True):
        probabilities[row] = np.where(true[row] == 1, 0.3, confidence)
    images = np.array([f"{number}.jpg" for number in range(IMAGES)])
    return Predictions(images, LABELS, true.astype(bool), probabilities, probabilities >= 0.4)


def write_selection(reports, runs, version):
    """Write reports/ as `select` does, for runs given as {name: (config, sample-F1, why it stopped)}."""
    reports.mkdir()
    board = pd.DataFrame(
        {
            "run": name, "score": f1, "low": f1 - 0.02, "high": f1 + 0.02, "model": settings["model"]["name"],
            "lr": settings["model"]["lr"], "folds": 1, "best_epoch": 3, "epochs": 3, "threshold": 0.5,
            "stopped": stopped, "left_out": "", "seconds": 180.0, "dollars": 0.0, "images_per_second": 100.0,
            "data": version.ref, "competition": "sample",
        }
        for name, (settings, f1, stopped) in runs.items()
    )  # fmt: skip
    board.to_csv(reports / "leaderboard.csv", index=False)
    best = board["run"][0]
    weights = {"configuration": [best], "weight": 1.0, "networks": 1, "score": 0.8}
    pd.DataFrame(weights).to_csv(reports / "ensemble.csv", index=False)
    thresholds = {"label": LABELS, "common": 0.4, "tuned": 0.3, "used": 0.4}
    pd.DataFrame(thresholds).to_csv(reports / "thresholds.csv", index=False)
    stored = predictions()
    write_predictions(reports / "predictions.npz", stored)
    texts = {name: label_texts(rows, LABELS) for name, rows in (("true", stored.true), ("predicted", stored.chosen))}
    pd.DataFrame({"image": stored.images, "fold": 0, **texts}).to_csv(reports / "predictions.csv", index=False)
    ensemble = {"used": False, "rule": "best_2", "configurations": 1, "gain": 0.001, "noise": True}
    ensemble |= {"low": -0.01, "high": 0.012}
    metrics = {"competition": "sample", "synthetic": True, "run": best, "run_score": 0.8, "score": 0.8125}
    metrics |= {
        "metric": "sample_f1",
        "low": 0.79,
        "high": 0.83,
        "ensemble": ensemble,
        "decision": {"by": "thresholds", "empty": False, "share": 0.0},
    }
    (reports / "metrics.json").write_text(json.dumps(metrics))
    differs = {"image": "test/<b>.jpg", "probability": 0.97, "jpeg": base64.b64encode(b"jpeg").decode()}
    shift = {"auc": 0.91, "reason": None, "train": 40, "test": 30, "images": [differs]}
    (reports / "shift.json").write_text(json.dumps(shift))
    pd.DataFrame(columns=["label"]).to_csv(reports / "labels.csv", index=False)
    bundle = reports.parent / "models/best"
    bundle.mkdir(parents=True)
    (bundle / "bundle.json").write_text("{}")
    write_record(reports, bundle, MADE_FOR)


def write_project(folder, runs, failed=()):
    """Write a project folder with data, runs and selection, without training."""
    twice = {"images": ["0.jpg", "1.jpg"], "labels": [["rust"], ["scab"]], "contradictory": True}
    agreeing = {"images": ["2.jpg", "3.jpg"], "labels": [["rust"], ["rust"]], "contradictory": False}
    folder.mkdir(exist_ok=True)
    prepared = prepare(folder / "prepared", leaves(0, IMAGES), encoding="raw", duplicates=[twice, agreeing])
    manifest = json.loads((prepared / "manifest.json").read_text())
    (prepared / "manifest.json").write_text(json.dumps(manifest | {"images": IMAGES}))
    version, _ = Store(FolderBackend(folder / "store")).push("plant-pathology", prepared)
    for name, (settings, f1, stopped) in runs.items():
        write_run(folder / "runs" / name, settings, version, f1, stopped)
    for name, settings in dict(failed).items():
        write_run(folder / "runs" / name, settings, version, 0.2, failure=REASON)
    (folder / "runs" / "sweep.json").write_text(json.dumps({"runs": [*runs, *dict(failed)]}))
    write_selection(folder / "reports", runs, version)
    return folder


def report(folder):
    done = run_module("report", *COMMAND, cwd=folder)
    assert done.returncode == 0, done.stderr
    return (folder / "reports" / "index.html").read_text()


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    runs = {
        "resnet18-a": (config(), 0.8, ""),
        "resnet34-b": (config("resnet34"), 0.7, "diverged & gone"),
        "resnet18-c": (config(lr=1e-4), 0.6, ""),
    }
    folder = tmp_path_factory.mktemp("report")
    return write_project(folder, runs, {"resnet34-d": config("resnet34", 1e-4)})


@pytest.fixture(scope="module")
def page(project):
    return report(project)


def test_the_commit_is_that_of_the_code_also_where_results_lie_in_another_repository(tmp_path):
    folder = write_project(tmp_path / "elsewhere", {"resnet18-a": (config(), 0.8, "")})
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "another"]):
        git(folder, *arguments)
    told = section(report(folder), "Provenance")
    assert git(folder, "rev-parse", "HEAD") not in told and f"<code>{commit(PROJECT)['commit']}</code>" in told


class Elements(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.tags, self.links, self.ids, self.opened = [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.opened.append((tag, dict(attributes)))
        self.ids += [value for name, value in attributes if name == "id"]
        self.links += [value for name, value in attributes if name in ("src", "href", "xlink:href", "srcset", "data")]


def section(page, heading):
    """Return the text between a heading and the next one."""
    return re.split(r"<h[23]", page.partition(f">{heading}</h")[2])[0]


def shown(page, heading):
    """Return the names of the images in a section, in order."""
    return re.findall(r"<code>(\S+?\.jpg)</code>", section(page, heading))


def test_the_page_loads_nothing_and_runs_no_script(page):
    elements = Elements(page)
    assert len(elements.links) > 10 and all(link.startswith(("#", "data:")) for link in elements.links)
    assert not {"script", "iframe", "object", "embed"} & set(elements.tags)
    assert not re.search(r"@import|url\((?!#)", page)
    assert len(elements.ids) == len(set(elements.ids))


def test_a_screen_reader_and_a_keyboard_reach_everything(page):
    """What axe-core found once; .ci/browser/report.mjs runs axe-core itself."""
    opened = Elements(page).opened
    levels = [int(tag[1]) for tag, _ in opened if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert {"header", "nav", "main", "footer"} <= {tag for tag, _ in opened}
    assert all(attributes["alt"] for tag, attributes in opened if tag == "img")
    assert not re.search(r"<th[^>]*>\s*</th>", page)
    scrolled = [attributes for _, attributes in opened if attributes.get("class") in ("scroll", "plot")]
    assert len(scrolled) >= 8 and all(each["tabindex"] == "0" and each["aria-label"] for each in scrolled)


def test_every_color_of_text_can_be_told_from_what_is_behind_it(page):
    light, dark = (
        dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", block)) for block in re.findall(r":root \{(.*?)\}", page, re.S)
    )
    assert light.keys() == dark.keys() and page.count(f'fill: {MUTED}" ') == 0

    def luminance(color):
        red, green, blue = (
            value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
            for value in (int(color[at : at + 2], 16) / 255 for at in (1, 3, 5))
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    def contrast(one, other):
        darker, lighter = sorted((luminance(one), luminance(other)))
        return (lighter + 0.05) / (darker + 0.05)

    for colors in (light, dark):
        texts = itertools.product(("ink", "soft", "leaf", "warn", "bad"), ("paper", "panel"))
        low = {pair: contrast(*(colors[name] for name in pair)) for pair in [*texts, ("warn", "warn-soft")]}
        assert min(low.values()) >= 4.5, low
        lines = {color: contrast(color, colors["paper"]) for color in (*COLORS[:2], MUTED)}
        assert min(lines.values()) >= 3, lines
    assert contrast(SOFT, "#ffffff") >= 4.5


def test_long_names_of_label_sets_leave_room_for_the_figure(tmp_path):
    names = [" + ".join(f"a label of some length {number}" for number in range(first, first + 5)) for first in range(9)]
    table = pd.DataFrame(np.eye(9, dtype=int), names, names)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Matplotlib: no layout, because the axes would have no room
        draw_sets(table, tmp_path / "sets.svg", "sample")
    texts = re.findall(r"<text [^>]*>([^<]+)</text>", (tmp_path / "sets.svg").read_text())
    assert max(map(len, texts)) <= 32 and sum(text.endswith("…") for text in texts) == 18


def test_names_and_messages_from_the_data_are_escaped(page, project):
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page and "<script" not in page
    assert "CUDA out of memory &lt;b&gt;" in page and "diverged &amp; gone" in page


def test_likely_label_errors_are_written_for_review(page, project):
    table = pd.read_csv(project / "reports/relabel.csv", keep_default_na=False)
    assert table["image"].tolist()[0] == "4.jpg" and shown(page, "Likely label errors") == table["image"].tolist()[:12]
    assert table.loc[0].tolist() == ["4.jpg", "scab", LABELS[0], 0.99, ""]


def test_test_images_of_another_kind_are_shown_with_a_warning(page):
    part = section(page, "Test images")
    assert "AUC of <b>0.91</b>" in part and "That is more than 0.7" in part
    assert "test/&lt;b&gt;.jpg" in part and "data:image/jpeg;base64,anBlZw==" in part


def test_failed_and_stopped_runs_are_listed_with_their_reason(page):
    board, broken = section(page, "Leaderboard"), section(page, "Runs without a result")
    assert "stopped: diverged &amp; gone" in board and "resnet34-d" not in board
    assert "resnet34-d" in broken and "CUDA out of memory" in broken and "3/3" in broken
    assert "1 stopped" in page and "1 failed" in page


def test_a_label_that_the_prediction_contradicts_with_confidence_is_a_likely_label_error(page):
    assert shown(page, "Likely label errors") == ["4.jpg"]


def test_worst_mistakes_are_wrong_predictions_ordered_by_loss(page):
    assert shown(page, "Worst mistakes") == ["5.jpg", "6.jpg", "7.jpg", "8.jpg", "9.jpg"]


def test_duplicates_with_contradictory_labels_are_shown(page):
    assert shown(page, "One picture, different labels") == ["0.jpg", "1.jpg"]


def test_each_thumbnail_shows_the_image_that_it_is_named_after(page):
    found = re.findall(r'<img src="data:image/jpeg;base64,(\S+?)" alt="(\d\S+?)"', page)  # no test images
    assert len(found) == 8
    for jpeg, name in found:
        pixels = cv2.imdecode(np.frombuffer(base64.b64decode(jpeg), np.uint8), cv2.IMREAD_COLOR_RGB).astype(float)
        apart = {number: np.abs(pixels - picture(f"{number}.jpg")).mean() for number in range(IMAGES)}
        assert f"{min(apart, key=apart.get)}.jpg" == name


def test_a_report_on_the_sample_says_that_it_is_synthetic(page):
    assert "Synthetic sample" in page


def test_the_same_inputs_give_the_same_bytes(page, project):
    figures = {path.name: path.read_bytes() for path in (project / "reports/figures").iterdir()}
    assert set(figures) == {"grid.svg", "curves.svg", "labels.svg", "sets.svg"}
    assert report(project) == page
    assert {path.name: path.read_bytes() for path in (project / "reports/figures").iterdir()} == figures


def test_any_two_axes_give_a_heatmap_and_only_a_rehearsal_of_this_bundle_is_shown(tmp_path):
    grid = [(size, crop) for size in (16, 64) for crop in (0.5, 0.9)]
    runs = {
        f"run-{size}-{crop}": (config(batch_size=size, crop=crop), 0.51 + 0.1 * place, "")
        for place, (size, crop) in enumerate(grid)
    }
    folder = write_project(tmp_path, dict(reversed(runs.items())))
    kernel = folder / "kernels" / "submission"
    kernel.mkdir(parents=True)
    verdict = {"verdict": "failed", "checks": {"runs": "no space left"}, "score": 0.75}
    verdict["scored"] = {"metric": "sample_f1", "images": 9, "training_images": 4}
    verdict["test_sets"] = {"public": {"images": 9, "seconds": 2.0, "peak_memory_mb": 77}}
    verdict["estimate"] = {"images": 5000, "seconds": 1111.0}
    weights = folder / "kernels" / "dataset" / "weights.safetensors"
    shutil.copytree(folder / "models/best", weights.parent)
    weights.write_bytes(b"weights")

    def write_rehearsal():
        bundle = file_hash(weights.parent / "bundle.json")
        rehearsal = verdict | {"sha256": folder_hashes(folder / "kernels"), "bundle": bundle}
        write_sealed(folder / "reports/rehearsal.json", rehearsal)

    write_rehearsal()
    page = report(folder)
    texts = re.findall(r"<text [^>]*>([^<]+)</text>", section(page, "Sweep"))
    assert {"data.batch_size", "data.augment.crop", "0.510", "0.610", "0.710", "0.810"} <= set(texts)
    assert "runs: no space left" in page and "77 MB" in page and "0.31 hours" in page
    assert "0.31 hours; sample_f1 0.7500 on 9 images, too high a score: 4 of them are training images" in page
    weights.write_bytes(b"others")
    assert "no space left" not in report(folder)
    (weights.parent / "bundle.json").write_text('{"another": 1}')
    write_rehearsal()
    assert "no space left" not in report(folder)


def test_a_decision_by_expected_f1_is_explained_and_shows_no_used_threshold(project, page, tmp_path):
    shutil.copytree(project, tmp_path / "copy")
    reports = tmp_path / "copy/reports"
    metrics = json.loads((reports / "metrics.json").read_text())
    (reports / "metrics.json").write_text(json.dumps(metrics | {"decision": {"by": "expected_f1", "share": 0.5}}))
    pd.read_csv(reports / "thresholds.csv").assign(used=None).to_csv(reports / "thresholds.csv", index=False)
    stored = predictions()
    stored.chosen[:, 0] = True
    write_predictions(reports / "predictions.npz", stored)
    write_record(reports, tmp_path / "copy/models/best", MADE_FOR)
    without = report(tmp_path / "copy")
    explanation = "the label set with the highest expected F1, by its probabilities, 50 % calibrated,"
    assert explanation in section(without, "Labels") and explanation not in page
    assert "<b>–</b>" in section(without, "Labels") and "<b>0.400</b>" in section(page, "Labels")
    assert " + " in section(without, "Label sets") and " + " not in section(page, "Label sets")


@pytest.mark.slow
def test_a_decision_that_the_config_names_is_compared_with_the_plain_one_and_beat_no_other(packaged, raw, tmp_path):
    shutil.copytree(packaged, tmp_path / "f")
    metrics = {}
    for rule in ("thresholds", "expected_f1"):
        settings = [*TINY, f"paths.raw={raw}", f"select.decision={rule}", "select.networks=2", "train.folds=2"]
        for module in ("select", "report"):
            done = run_module(module, *settings, cwd=tmp_path / "f")
            assert done.returncode == 0, done.stderr
        metrics[rule] = json.loads((tmp_path / "f/reports/metrics.json").read_text())
    plain = {rule: each["score"] - each["decision"]["gain"] for rule, each in metrics.items()}
    assert plain["expected_f1"] == pytest.approx(plain["thresholds"], abs=1e-3)
    text = (tmp_path / "f/reports/index.html").read_text()
    assert "no other one competed" in text and "beats thresholds" not in text


@pytest.mark.parametrize(
    ("configs", "expected"),
    [
        ([config()], []),
        ([config("a"), config("b")], ["model.name"]),
        ([config("a", 1), config("b", 2)], ["model.name"]),  # they go together
        ([config(m, lr, crop=c) for m in "ab" for lr in (1, 2) for c in (1, 2, 3)], ["model.name", "model.lr"]),
        ([config(lr=lr, fold=f, seed=s) for lr in (1, 2) for f in (0, 1) for s in (1, 2)], ["model.lr", "data.seed"]),
    ],
)
def test_the_map_shows_the_keys_that_vary_independently(configs, expected):
    assert map_axes(flatten_configs({str(number): each for number, each in enumerate(configs)})) == expected


def test_counts_of_labels_and_label_sets():
    true = np.array([[1, 0], [1, 0], [1, 1], [0, 1]], bool)
    predicted = np.array([[1, 0], [0, 1], [1, 0], [0, 1]], bool)
    first, second = label_counts(["a", "b"], true, predicted).to_dict("records")
    assert (first["hits"], first["missed"], first["added"], first["precision"]) == (2, 1, 0, 1.0)
    assert (second["hits"], second["missed"], second["added"], second["recall"]) == (1, 1, 1, 0.5)
    sets = set_matrix(set_names(true, ["a", "b"]), set_names(predicted, ["a", "b"]), shown=2)
    assert sets.loc["a"].to_dict() == {"a": 1, "b": 1}
    assert sets.loc["other sets"].to_dict() == {"a": 1, "b": 0}


def test_a_suspect_label_needs_an_opposite_above_one_half_and_above_its_mean():
    true = np.array([[1], [1], [1], [0], [0], [0]], bool)
    # 0.55 is above one half, but below the mean of rows with the label, 0.573.
    rows, labels = label_errors(np.array([[0.9], [0.8], [0.02], [0.3], [0.55], [0.64]]), true, ~true)
    assert rows.tolist() == [2, 5] and labels.tolist() == [0, 0]
    # 0.28 is above the mean of rows with the label, 0.25, but below one half.
    rows, _ = label_errors(np.array([[0.3], [0.25], [0.2], [0.28], [0.2], [0.2]]), true, ~true)
    assert rows.tolist() == [2]
    # A label that is predicted as given is not suspect.
    rows, _ = label_errors(np.array([[0.3], [0.25], [0.2], [0.28], [0.2], [0.2]]), true, true)
    assert rows.tolist() == []


def test_of_many_labels_the_most_frequent_and_the_worst_are_shown():
    labels = [f"label {number}" for number in range(3474)]
    true = np.minimum(np.random.default_rng(0).geometric(0.01, 9000), 3000) - 1
    predicted = np.where(true < 40, true, (true + 1) % 3474)
    shown = extreme_labels(label_counts(labels, true, predicted))
    assert len(shown) == 60 and shown["label"].nunique() == 60
    assert shown["images"].head(30).min() >= shown["images"].tail(30).max()
    assert (shown["f1"].tail(30) == 0).all() and (shown["images"] > 0).all()


def test_a_class_that_the_prediction_contradicts_with_confidence_is_a_likely_label_error():
    true, predicted = np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 0])
    outputs = np.array([[0.9, 0.1], [0.02, 0.98], [0.2, 0.8], [0.3, 0.7], [0.55, 0.45]])
    # The second row's prediction is above the mean of its class, 0.65; the last one's is above 0.46.
    assert class_errors(outputs, true, predicted).tolist() == [1, 4]
    assert losses(outputs, true)[1] == pytest.approx(-np.log(0.02))
    assert losses(np.float32([[1.0], [4.0]]), np.float32([1.5, 2.0])).tolist() == [0.5, 2.0]
