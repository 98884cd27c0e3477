"""Write the report: one page to open from disk, reports/index.html, and its figures in reports/figures.

Reads the tables of `select`, the runs' folders and the pixels of the images to show; needs no network and no kernel.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig

from plant_pathology.competition.metrics import label_counts
from plant_pathology.competition.spec import Competition
from plant_pathology.core import provenance
from plant_pathology.core.checkout import checkout
from plant_pathology.core.files import atomic_file, atomic_folder, read_json, remove_leftovers
from plant_pathology.core.one_command import one_command
from plant_pathology.kernel.build import STAGES_BEFORE
from plant_pathology.kernel.package import REHEARSAL, folder_hashes, read_rehearsal
from plant_pathology.reporting import figures
from plant_pathology.reporting.error_analysis import frequent_mistakes, set_matrix, set_names
from plant_pathology.reporting.galleries import galleries
from plant_pathology.reporting.relabel import write_relabel
from plant_pathology.reporting.render import inline_svg, render
from plant_pathology.reporting.selection_tables import SelectionTables, read_selection
from plant_pathology.reporting.sweep_runs import SweepRuns, data_version, identity_rows, read_runs, shared_settings
from plant_pathology.runs.status import FINISHED, STOPPED
from plant_pathology.selection.axes import flatten_configs, map_axes, varying_keys
from plant_pathology.selection.record import SHIFTED

RELABEL = "relabel.csv"  # in reports/
SETS = 12  # label sets with a row and a column of their own
MISTAKES = 10  # most frequent pairs of true and predicted set
EXTREME = 30  # labels shown at either end where there are more


def write_report(cfg: DictConfig) -> None:
    """Write reports/index.html, reports/figures and reports/relabel.csv.

    Raises:
        UserError: `select` has not run for this competition, what it wrote is damaged or of several selections, or
            its runs or their data are not there.
        BusyError: another command works on models/, kernels/ or reports/.
    """
    competition = Competition.from_config(cfg)
    models, kernels, reports = Path(cfg.paths.models), Path(cfg.paths.kernels), Path(cfg.paths.reports)
    with one_command(writes=[reports], reads=[models, kernels]):
        remove_leftovers(reports / "figures", reports / "index.html", reports / RELABEL)
        selection = read_selection(reports, models, competition)
        write_page(cfg, competition, selection)
        write_relabel(reports / RELABEL, selection, competition.target)


def write_page(cfg: DictConfig, competition: Competition, selection: SelectionTables) -> None:
    """Write the page and its figures."""
    root, reports, kernels = Path(cfg.paths.root), Path(cfg.paths.reports), Path(cfg.paths.kernels)
    board = selection.board["run"].tolist()
    runs = read_runs(cfg, board)
    settings = flatten_configs({run: identity["config"] for run, identity in runs.identities.items()})
    labels = label_content(selection)
    version = data_version(cfg, runs.identities[board[0]])
    manifest = read_json(version.open("manifest.json"), "push the prepared data again")
    map_keys = map_axes(settings.loc[board])
    with atomic_folder(reports / "figures") as folder:
        figures.draw_map(
            with_settings(selection.board, settings),
            map_keys,
            folder / "grid.svg",
            competition.title,
            competition.metric,
        )
        figures.draw_curves(runs.statuses, folder / "curves.svg", competition.title, competition.metric)
        draw_predictions(selection, folder, competition)
        svgs = {path.stem: inline_svg(path) for path in folder.glob("*.svg")}
    page = render(
        **sweep_content(runs, selection.board, settings),
        competition=competition,
        metrics=selection.metrics,
        shift=selection.shift,
        shifted=SHIFTED,
        figures=svgs,
        **labels,
        ensemble=selection.ensemble.to_dict("records"),
        galleries=galleries(selection, version, manifest),
        images=len(selection.predictions),
        folds=selection.predictions["fold"].nunique(),
        rehearsal=current_rehearsal(reports, kernels, selection.bundle),
        version=version,
        manifest=manifest,
        origin=provenance.commit(checkout()),
        locked=provenance.locked_outputs(root, STAGES_BEFORE),
    )
    with atomic_file(reports / "index.html") as work:
        work.write_text(page, encoding="utf-8")
    print(f"{reports / 'index.html'}: {len(runs.statuses)} runs, {len(selection.predictions)} predicted images")


def label_content(selection: SelectionTables) -> dict[str, Any]:
    """Return what the page shows about labels: counts, thresholds and mistakes."""
    if not selection.labels:
        return {"labels": [], "all_labels": 0, "confused": []}
    counts = label_counts(selection.labels, selection.true, selection.predicted)
    true, predicted = (set_names(rows, selection.labels) for rows in (selection.true, selection.predicted))
    return {
        "labels": extreme_labels(counts).join(selection.thresholds, on="label").to_dict("records"),
        "all_labels": len(counts),
        "confused": frequent_mistakes(true, predicted, MISTAKES).to_dict("records"),
    }


def extreme_labels(counts: pd.DataFrame) -> pd.DataFrame:
    """Return all labels; with many the EXTREME most frequent ones, then the EXTREME with the lowest F1.

    Args:
        counts: what `label_counts` returns.
    """
    if len(counts) <= 2 * EXTREME:
        return counts
    frequent = counts.sort_values(["images", "label"], ascending=[False, True]).head(EXTREME)
    others = counts[(counts["images"] > 0) & ~counts.index.isin(frequent.index)]
    return pd.concat([frequent, others.sort_values(["f1", "images"], ascending=[True, False]).head(EXTREME)])


def draw_predictions(selection: SelectionTables, folder: Path, competition: Competition) -> None:
    """Draw labels.svg and sets.svg: what is predicted against what is true."""
    title = competition.title
    if not selection.labels:
        figures.draw_residuals(selection.true, selection.predicted, folder / "labels.svg", title)
        figures.draw_numbers(selection.true, selection.predicted, folder / "sets.svg", title)
        return
    counts = label_counts(selection.labels, selection.true, selection.predicted)
    true, predicted = (set_names(rows, selection.labels) for rows in (selection.true, selection.predicted))
    figures.draw_labels(extreme_labels(counts), folder / "labels.svg", title)
    figures.draw_sets(set_matrix(true, predicted, SETS), folder / "sets.svg", title)


def with_settings(board: pd.DataFrame, settings: pd.DataFrame) -> pd.DataFrame:
    """Return the leaderboard with one column per config key of its runs."""
    return board.drop(columns=settings.columns, errors="ignore").join(settings, on="run")


def sweep_content(runs: SweepRuns, board: pd.DataFrame, settings: pd.DataFrame) -> dict[str, Any]:
    """Return what the page shows about the sweep: its runs, leaderboard, axes and cost.

    Args:
        board: leaderboard.csv.
        settings: one row per run that has begun, one column per config key.
    """
    ranked = settings.loc[board["run"]]
    return {
        "board": board_rows(board, settings),
        "axes": varying_keys(ranked),
        "mapped": map_axes(ranked),
        "states": Counter(status.state for status in runs.statuses),
        "statuses": runs.statuses,
        "broken": [status for status in runs.statuses if status.state not in (FINISHED, STOPPED)],
        "hours": sum(status.hours for status in runs.statuses),
        "dollars": sum(status.dollars for status in runs.statuses),
        "identities": identity_rows(runs.identities, settings),
        "shared": shared_settings(settings),
    }


def board_rows(board: pd.DataFrame, settings: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the leaderboard's rows with settings, and interval and score as percent of the range of all intervals."""
    low, width = board["low"].min(), max(board["high"].max() - board["low"].min(), 1e-9)
    return [
        {
            **row,
            "settings": settings.loc[row["run"]],
            "from": 100 * (row["low"] - low) / width,
            "to": 100 * (row["high"] - low) / width,
            "at": 100 * (row["score"] - low) / width,
        }
        for row in board.to_dict("records")
    ]


def current_rehearsal(reports: Path, kernels: Path, bundle: str) -> dict[str, Any] | None:
    """Return rehearsal.json; None, and print it, unless it is about the files in kernels/ and these hold the bundle.

    Args:
        bundle: SHA-256 of the selected bundle.json.

    Raises:
        DamagedError: it is not what `rehearse` wrote.
    """
    path = reports / REHEARSAL
    rehearsal = read_rehearsal(path) if path.exists() else {}
    if rehearsal.get("bundle") == bundle and rehearsal["sha256"] == folder_hashes(kernels):
        return rehearsal
    print(
        f"the page shows no rehearsal: {path} is not of the selected bundle: run `python -m plant_pathology.rehearse`"
    )
    return None
