"""Stage: the sweep's runs to a leaderboard and the bundle that predicts. Reads no images, trains nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from omegaconf import DictConfig
from safetensors.torch import save_file

from plant_pathology.competition import Competition
from plant_pathology.cost import dollars
from plant_pathology.metrics import decide, sample_f1
from plant_pathology.stage import StageError, stage, whole_file, whole_folder, write_json
from plant_pathology.sweep import sweep_results


@stage
def main(cfg: DictConfig) -> None:
    competition = Competition.from_config(cfg)
    runs, reports = Path(cfg.paths.runs), Path(cfg.paths.reports)
    results = sweep_results(runs)
    board = leaderboard(results, runs, competition)
    best = results[0]
    predictions = pd.read_csv(runs / best["run"] / "validation.csv", dtype={"image": str})
    scores = label_scores(predictions, best["threshold"], competition)
    write_bundle(Path(cfg.paths.models) / "best", runs, best, predictions, competition)
    write_table(reports / "leaderboard.csv", board)
    write_table(reports / "labels.csv", scores)
    write_json(
        reports / "metrics.json",
        {
            "competition": competition.name,
            "synthetic": competition.synthetic,
            "run": best["run"],
            "sample_f1": best["f1"],
            "runs": len(results),
            "train_seconds": sum(result["seconds"] for result in results),
        },
    )
    print(f"{best['run']} is the best of {len(results)} runs, sample-F1 {best['f1']:.4f} on {competition.title}")


def leaderboard(results: list[dict[str, Any]], runs: Path, competition: Competition) -> pd.DataFrame:
    """A row a run, best first."""
    return pd.DataFrame(
        {
            "run": result["run"],
            "sample_f1": round(result["f1"], 6),
            "model": result["config"]["model"]["name"],
            "lr": result["config"]["model"]["lr"],
            "best_epoch": result["epoch"] + 1,
            "epochs": result["epochs"],
            "threshold": round(result["threshold"], 3),
            "stopped": result["stopped"] or "",
            "seconds": result["seconds"],
            "dollars": round(dollars(runs / result["run"]), 4),
            "images_per_second": result["images_per_second"],
            "data": result["data_ref"],
            "competition": competition.name,
        }
        for result in results
    )


def label_scores(predictions: pd.DataFrame, threshold: float, competition: Competition) -> pd.DataFrame:
    """Precision, recall and F1 of each label on the validation fold."""
    probabilities, true = probabilities_and_truth(predictions, competition)
    chosen = decide(probabilities, threshold, competition.multilabel)
    hits = (chosen & true).sum(axis=0)
    predicted, actual = chosen.sum(axis=0), true.sum(axis=0)
    return pd.DataFrame(
        {
            "label": competition.labels,
            "precision": hits / np.maximum(predicted, 1),
            "recall": hits / np.maximum(actual, 1),
            "f1": 2 * hits / np.maximum(predicted + actual, 1),
            "images": actual,
        }
    ).round(4)


def probabilities_and_truth(predictions: pd.DataFrame, competition: Competition) -> tuple[np.ndarray, np.ndarray]:
    """A run's validation.csv as (n, labels) probabilities and (n, labels) bool truth."""
    probabilities, true = (predictions[[prefix + label for label in competition.labels]] for prefix in ("p_", "is_"))
    return probabilities.to_numpy(np.float32), true.to_numpy(bool)


def write_bundle(
    folder: Path, runs: Path, best: dict[str, Any], predictions: pd.DataFrame, competition: Competition
) -> None:
    """Weights as safetensors, and bundle.json with all else that predicting takes."""
    probabilities, true = probabilities_and_truth(predictions, competition)
    reached = sample_f1(decide(probabilities, best["threshold"], competition.multilabel), true)
    if not np.isclose(reached, best["f1"]):
        raise StageError(
            f"{runs / best['run']}: validation.csv gives sample-F1 {reached:.6f}, result.json says {best['f1']:.6f};"
            f" delete the folder and start the sweep again"
        )
    checkpoint = torch.load(runs / best["run"] / "best.ckpt", map_location="cpu", weights_only=True)
    prefix = "network."
    weights = {
        key.removeprefix(prefix): value for key, value in checkpoint["state_dict"].items() if key.startswith(prefix)
    }
    network = best["network"]
    with whole_folder(folder) as work:
        name = f"{best['run']}.safetensors"
        save_file({key: value.contiguous() for key, value in weights.items()}, work / name)
        (work / name).chmod(0o644)
        write_json(
            work / "bundle.json",
            {
                "competition": competition.name,
                "title": competition.title,
                "synthetic": competition.synthetic,
                "test_images": competition.test_images,
                "sample_submission": competition.sample_submission,
                "image_column": competition.image_column,
                "label_column": competition.label_column,
                "separator": competition.separator,
                "multilabel": competition.multilabel,
                "labels": competition.labels,
                "image_size": network["image_size"],
                "thresholds": dict.fromkeys(competition.labels, best["threshold"]),
                "fallback": most_frequent(true, competition),
                "members": [
                    {
                        "run": best["run"],
                        "architecture": network["name"],
                        "weights": name,
                        "weight": 1.0,
                        "mean": network["mean"],
                        "std": network["std"],
                    }
                ],
                "score": {"metric": "sample_f1", "validation": best["f1"]},
                "data": {"ref": best["data_ref"], "sha256": best["data"]},
                "runs": [{key: best[key] for key in ("run", "f1", "epoch", "config", "code")}],
            },
        )


def most_frequent(true: np.ndarray, competition: Competition) -> str:
    """The label set that stands in most rows, as a submission spells it."""
    sets, counts = np.unique(true, axis=0, return_counts=True)
    return competition.separator.join(np.array(competition.labels)[sets[counts.argmax()]])


def write_table(path: Path, table: pd.DataFrame) -> None:
    with whole_file(path) as work:
        table.to_csv(work, index=False)


if __name__ == "__main__":
    main()
