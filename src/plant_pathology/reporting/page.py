"""Stage: what select found, as one page to open from disk: reports/index.html, and its figures in reports/figures.

Reads tables, the runs' folders and the pixels of the images that it shows; needs no network and no kernel.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from omegaconf import DictConfig, OmegaConf

from plant_pathology.competition.metrics import label_counts
from plant_pathology.competition.spec import Competition
from plant_pathology.core import plotting, provenance
from plant_pathology.core.errors import UserError
from plant_pathology.core.files import atomic_file, atomic_folder, read_json
from plant_pathology.kernel.build import STAGES_BEFORE
from plant_pathology.kernel.package import folder_hashes
from plant_pathology.reporting import error_analysis as mistakes
from plant_pathology.reporting import figures
from plant_pathology.reporting.thumbnails import thumbnails
from plant_pathology.runs.run import RUN
from plant_pathology.runs.status import FINISHED, STOPPED, Status, duration, status_of
from plant_pathology.selection import axes
from plant_pathology.store.connect import open_version
from plant_pathology.store.version import Version
from plant_pathology.sweeps.index import sweep_folders

SELECT = "run `python -m plant_pathology.select`"
SHOWN = 12  # images, or groups of them, in each gallery
SETS = 12  # label sets with a row of their own
LIKELY = 3  # labels of an image that are shown in any case
READABLE = "46rem"  # width of a figure below which it is scrolled rather than shrunk


@dataclass(frozen=True)
class Selection:
    """What select wrote into reports/.

    Args:
        thresholds: by label: common, tuned, and used, which is empty where no threshold decides.
        true, probabilities, predicted: (n, labels), a row a line of `predictions`, out of fold.
    """

    metrics: dict[str, Any]
    board: pd.DataFrame
    ensemble: pd.DataFrame
    thresholds: pd.DataFrame
    predictions: pd.DataFrame
    true: np.ndarray
    probabilities: np.ndarray
    predicted: np.ndarray


def write_report(cfg: DictConfig) -> None:
    competition = Competition.from_config(cfg)
    reports = Path(cfg.paths.reports)
    selection = read_selection(reports, competition)
    runs = read_runs(cfg, selection.board["run"].tolist())
    configs = {run: identity["config"] for run, (_, identity) in runs.items() if identity}
    settings = axes.flatten_configs(configs)
    shown = settings.loc[selection.board["run"]]
    mapped = axes.map_axes(shown)
    statuses = [status for status, _ in runs.values()]
    counts = label_counts(competition.labels, selection.true, selection.predicted)
    sets = tuple(mistakes.set_names(rows, competition.labels) for rows in (selection.true, selection.predicted))
    first = runs[selection.board["run"][0]][1]
    version = version_of(cfg, first["data_ref"], first["data"])
    manifest = read_json(version.open("manifest.json"), "push the prepared data again")
    with atomic_folder(reports / "figures") as folder:
        board = selection.board.drop(columns=settings.columns, errors="ignore").join(settings, on="run")
        figures.grid(board, mapped, folder / "grid.svg", competition.title)
        histories = [figures.Curve(each.run, each.state, pd.DataFrame(each.rows)) for each in statuses]
        figures.curves(histories, folder / "curves.svg", competition.title)
        figures.labels(counts, folder / "labels.svg", competition.title)
        figures.sets(mistakes.set_matrix(*sets, SETS), folder / "sets.svg", competition.title)
        svgs = {path.stem: inline(path) for path in folder.glob("*.svg")}
    page = render(
        competition=competition,
        metrics=selection.metrics,
        figures=svgs,
        board=board_rows(selection.board, settings),
        axes=axes.varying_keys(shown),
        mapped=mapped,
        states=Counter(status.state for status in statuses),
        statuses=statuses,
        broken=[status for status in statuses if status.state not in (FINISHED, STOPPED)],
        hours=sum(status.hours for status in statuses),
        dollars=sum(status.dollars for status in statuses),
        labels=counts.join(selection.thresholds, on="label").to_dict("records"),
        confused=mistakes.frequent_mistakes(*sets, 10).to_dict("records"),
        ensemble=selection.ensemble.to_dict("records"),
        galleries=galleries(selection, competition, version, manifest),
        images=len(selection.predictions),
        folds=selection.predictions["fold"].nunique(),
        rehearsal=rehearsal_of(reports, Path(cfg.paths.kernels), selection.metrics),
        version=version,
        manifest=manifest,
        origin=provenance.commit(Path(cfg.paths.root)),
        locked=provenance.locked_outputs(Path(cfg.paths.root), STAGES_BEFORE),
        identities=identity_rows(runs, settings),
        shared=shared_settings(settings),
    )
    with atomic_file(reports / "index.html") as work:
        work.write_text(page, encoding="utf-8")
    print(f"{reports / 'index.html'}: {len(runs)} runs, {len(selection.predictions)} predicted images")


def read_selection(reports: Path, competition: Competition) -> Selection:
    """Raises: UserError where select has not run, or for other labels."""
    metrics = read_json(reports / "metrics.json", SELECT)
    if metrics["competition"] != competition.name:
        raise UserError(f"{reports / 'metrics.json'} is for {metrics['competition']}, not {competition.name}: {SELECT}")
    if absent := sorted({"low", "high", "ensemble", "decision"} - set(metrics)):
        raise UserError(f"{reports / 'metrics.json'} lacks {', '.join(absent)}: {SELECT}")
    tables = {name: read_table(reports / f"{name}.csv") for name in ("leaderboard", "ensemble", "predictions")}
    predictions = tables["predictions"]
    thresholds = read_table(reports / "thresholds.csv").set_index("label")
    columns = [f"{prefix}{label}" for prefix in ("is_", "p_", "has_") for label in competition.labels]
    if absent := sorted({*columns} - {*predictions} | {*competition.labels} - {*thresholds.index}):
        raise UserError(f"{reports}: predictions.csv and thresholds.csv lack {', '.join(absent)}: {SELECT}")
    thresholds = thresholds.loc[competition.labels]
    true, probabilities, predicted = np.split(predictions[columns].to_numpy(float), 3, axis=1)
    board, ensemble = tables["leaderboard"], tables["ensemble"]
    sets = (true.astype(bool), probabilities, predicted.astype(bool))
    return Selection(metrics, board, ensemble, thresholds, predictions, *sets)


def read_table(path: Path) -> pd.DataFrame:
    """A table of select's; names stay text, also where they look like numbers or like nothing."""
    try:
        texts = dict.fromkeys(("run", "configuration", "label", "image", "model"), str)
        return pd.read_csv(path, dtype=texts, keep_default_na=False)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: {SELECT}") from None


def read_runs(cfg: DictConfig, board: Sequence[str]) -> dict[str, tuple[Status, dict[str, Any] | None]]:
    """The sweep's runs in the leaderboard's order, then those that are not on it: how far each is, and its run.json.

    Raises:
        UserError: the leaderboard names a run that is not there.
    """
    found = {folder.name: folder for folder in sweep_folders(cfg)}
    found |= {name: Path(cfg.paths.runs) / name for name in board}
    if absent := [name for name in board if not (found[name] / RUN).exists()]:
        raise UserError(f"{cfg.paths.runs} has no {absent[0]}, which the leaderboard names: {SELECT}")
    order = [*board, *(name for name in sorted(found) if name not in board)]
    return {name: (status_of(found[name]), identity_of(found[name])) for name in order}


def identity_of(folder: Path) -> dict[str, Any] | None:
    path = folder / RUN
    return read_json(path, f"delete {folder} and start again") if path.exists() else None


def version_of(cfg: DictConfig, ref: str, sha256: str) -> Version:
    """The version that the runs were trained on, which need not be the one pushed last.

    Raises:
        UserError: the store holds other data by that name, or none.
    """
    version = open_version(OmegaConf.merge(cfg, {"data": {"ref": ref}}))
    if version.sha256 != sha256:
        raise UserError(f"{cfg.store.uri} holds another {ref} than the runs were trained on: set store.uri")
    return version


def inline(path: Path) -> str:
    """An SVG as a part of a page: in the page's own ink, with ids that no other figure has, shrinking to READABLE."""
    svg = path.read_text(encoding="utf-8")
    svg = svg[svg.index("<svg") :].replace(plotting.INK, "currentColor")
    svg = re.sub(r'<svg [^>]*?width="([\d.]+pt)"', rf'\g<0> style="min-width: min({READABLE}, \1)"', svg, count=1)
    return re.sub(r'(\bid="|url\(#|href="#)', rf"\1{path.stem}-", svg)


def board_rows(board: pd.DataFrame, settings: pd.DataFrame) -> list[dict[str, Any]]:
    """The leaderboard's rows with the run's settings, and its interval as shares of the table's."""
    low, width = board["low"].min(), max(board["high"].max() - board["low"].min(), 1e-9)
    return [
        {
            **row,
            "settings": settings.loc[row["run"]],
            "from": 100 * (row["low"] - low) / width,
            "to": 100 * (row["high"] - low) / width,
            "at": 100 * (row["sample_f1"] - low) / width,
        }
        for row in board.to_dict("records")
    ]


def galleries(
    selection: Selection, competition: Competition, version: Version, manifest: dict[str, Any]
) -> dict[str, Any]:
    """Likely label errors, then the worst of the other mistakes, and pictures known with contradictory labels."""
    doubtful, doubts = mistakes.label_errors(selection.probabilities, selection.true, selection.predicted)
    loss = mistakes.losses(selection.probabilities, selection.true, competition.multilabel)
    wrong = np.flatnonzero((selection.predicted != selection.true).any(axis=1))
    others = wrong[~np.isin(wrong, doubtful[:SHOWN])]
    worst = others[np.argsort(-loss[others], kind="stable")][:SHOWN]
    contradictory = [group for group in manifest.get("duplicates", []) if group["contradictory"]]
    known = contradictory[:SHOWN]
    names = selection.predictions["image"]
    shown = [*names.iloc[[*doubtful[:SHOWN], *worst]], *(name for group in known for name in group["images"])]
    pixels = thumbnails(version, manifest["encoding"], shown)
    return {
        "doubtful": [
            card(selection, competition, row, pixels) | {"doubt": competition.labels[label]}
            for row, label in zip(doubtful[:SHOWN].tolist(), doubts[:SHOWN].tolist(), strict=True)
        ],
        "doubtful_images": len(doubtful),
        "worst": [card(selection, competition, row, pixels) | {"loss": loss[row]} for row in worst.tolist()],
        "wrong_images": len(wrong),
        "known": [
            [
                {"image": image, "labels": labels, "source": pixels.get(image)}
                for image, labels in zip(group["images"], group["labels"], strict=True)
            ]
            for group in known
        ],
        "known_groups": len(contradictory),
    }


def card(selection: Selection, competition: Competition, row: int, pixels: dict[str, str]) -> dict[str, Any]:
    """One image: what its labels are, and how probable each label is that is true, predicted or likely."""
    line = selection.predictions.iloc[row]
    true, predicted, probabilities = selection.true[row], selection.predicted[row], selection.probabilities[row]
    order = np.argsort(-probabilities, kind="stable")
    told = [place for rank, place in enumerate(order) if rank < LIKELY or true[place] or predicted[place]]
    return {
        "image": line["image"],
        "fold": line["fold"],
        "source": pixels.get(line["image"]),
        "bars": [
            {
                "label": competition.labels[place],
                "probability": probabilities[place],
                "true": true[place],
                "predicted": predicted[place],
            }
            for place in told
        ],
    }


def rehearsal_of(reports: Path, kernels: Path, metrics: dict[str, Any]) -> dict[str, Any] | None:
    """The rehearsal's verdict; None where there is none, or it is of other bytes than the kernel's, or that one has
    another bundle than the one selected."""
    paths = reports / "rehearsal.json", kernels / "submission" / "kernel-metadata.json"
    if not all(path.exists() for path in paths):
        return None
    verdict, kernel = (read_json(path, f"delete {path}") for path in paths)
    selected = kernel["provenance"]["score"]["validation"] == metrics["sample_f1"]
    return verdict if selected and verdict.get("sha256") == folder_hashes(kernels) else None


def identity_rows(
    runs: dict[str, tuple[Status, dict[str, Any] | None]], settings: pd.DataFrame
) -> list[dict[str, Any]]:
    """A row a run that began: its name, which ends in the hash of config, data and code, and what differs."""
    keys = [*axes.varying_keys(settings), *([axes.FOLD] if settings[axes.FOLD].nunique() > 1 else [])]
    return [
        {
            "run": run,
            "code": identity["code"],
            "data": identity["data"],
            "ref": identity["data_ref"],
            "settings": {key: settings.loc[run, key] for key in keys},
        }
        for run, (_, identity) in runs.items()
        if identity
    ]


def shared_settings(settings: pd.DataFrame) -> dict[str, Any]:
    """What all runs have in common, without the competition, which has a file of its own."""
    differing = {*axes.varying_keys(settings), axes.FOLD}
    kept = [key for key in settings if key not in differing and not key.startswith("competition.")]
    return {key: settings[key].iloc[0] for key in kept}


def render(**content: Any) -> str:
    """report.html filled in; everything but our own figures is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"value": figures.value, "title": axes.axis_title, "duration": duration}
    return environment.get_template("page.html").render(**content)
