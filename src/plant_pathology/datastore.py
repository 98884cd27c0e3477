"""Push, list, show, pull, verify and remove versions of prepared data in the store.

`push` is a stage: its output, the pointer file, names the version that the rest of the pipeline uses.
"""

from collections.abc import Callable
from pathlib import Path

from omegaconf import DictConfig
from tqdm import tqdm

from plant_pathology.core.app import run_verb
from plant_pathology.core.checkout import checkout
from plant_pathology.core.errors import UserError
from plant_pathology.core.files import read_json, write_json
from plant_pathology.core.provenance import commit
from plant_pathology.store import garbage
from plant_pathology.store.connect import open_store, open_version
from plant_pathology.store.version import Version


def push(cfg: DictConfig) -> None:
    """Store the prepared data as a new version, unless the store has it already, and point to it."""
    folder = Path(cfg.paths.prepared)
    manifest = read_json(folder / "manifest.json", "run `python -m plant_pathology.prepare` first")
    if (made_for := manifest.get("competition", cfg.competition.name)) != cfg.competition.name:
        raise UserError(
            f"{folder} holds {made_for}, and the config says competition={cfg.competition.name}: run prepare first"
        )
    version, new = open_store(cfg).push(str(cfg.store.name), folder, str(cfg.store.note or ""), commit(checkout()))
    write_json(Path(cfg.paths.pointer), {"ref": version.ref, "uri": cfg.store.uri, "sha256": version.sha256})
    print(f"{version.ref}: {bytes_of(version)}, {'new' if new else 'there already'}, in {cfg.store.uri}")


def ls(cfg: DictConfig) -> None:
    rows = [[v.name, str(v.version), bytes_of(v), v.created, v.note] for v in open_store(cfg).versions()]
    print_columns([["name", "version", "size", "created", "note"], *rows])


def show(cfg: DictConfig) -> None:
    version = open_version(cfg)
    print_columns(
        [
            ["version", version.ref],
            ["created", version.created],
            ["note", version.note],
            ["size", bytes_of(version)],
            ["sha256", version.sha256],
            *describe(version),
        ]
    )
    print()
    rows = [[file, str(entry["size"]), entry["sha256"]] for file, entry in version.files.items()]
    print_columns([["file", "bytes", "sha256"], *rows])


def describe(version: Version) -> list[list[str]]:
    """Return rows that say where a version comes from: parent, commit, competition and settings of prepare."""
    # Imported here, so that commands that only read start without pandas.
    from plant_pathology.store.incremental import MANIFEST, SETTINGS

    lineage = version.lineage
    lines = [["identity", version.identity]]
    parent = f"{version.name}:{lineage['parent']}" if lineage["parent"] else "none"
    changes = [f"{lineage[what]} {what}" for what in ("added", "removed", "changed") if what in lineage]
    lines.append(["parent", f"{parent}: {', '.join(changes)}" if changes else parent])
    if lineage.get("commit"):
        others = len(lineage["uncommitted"])
        lines.append(["commit", lineage["commit"] + (f" and {others} uncommitted files" if others else "")])
    if MANIFEST in version.files:
        manifest = read_json(version.open(MANIFEST), "push the prepared data again")
        lines += [[key, str(manifest[key])] for key in ("competition", "images", *SETTINGS) if key in manifest]
    return lines


def pull(cfg: DictConfig) -> None:
    if not cfg.store.into:
        raise UserError("store.into is not set: name the folder to copy to, store.into=<folder>")
    version = open_version(cfg)
    version.pull(Path(cfg.store.into))
    print(f"{version.ref}: {bytes_of(version)} in {cfg.store.into}")


def verify(cfg: DictConfig) -> None:
    version = open_version(cfg)
    if damage := version.find_damage():
        raise UserError(f"{len(damage)} of {len(version.files)} files are damaged\n  " + "\n  ".join(damage))
    print(f"{version.ref}: all {len(version.files)} files are what was pushed, {bytes_of(version)}")


def rm(cfg: DictConfig) -> None:
    if not cfg.data.ref:
        raise UserError("data.ref is not set: name the version to remove, data.ref=<name>:<number>")
    store, ref = open_store(cfg), str(cfg.data.ref)
    version = store.resolve(ref)
    pointer = Path(cfg.paths.pointer)
    if ref == version.ref and pointer.exists() and read_json(pointer, "delete it").get("sha256") == version.sha256:
        raise UserError(f"{pointer} points to {version.ref}: push another version first, or delete {pointer}")
    for run in sorted(path.parent for path in Path(cfg.paths.runs).glob("*/run.json")):
        unfinished = not (run / "result.json").exists()
        if unfinished and read_json(run / "run.json", f"delete {run}").get("data") == version.sha256:
            raise UserError(f"{run} needs {version.ref} to be trained to its end: do that first, or delete {run}")
    garbage.rm(store, ref)
    print(f"{version.ref} is removed from {cfg.store.uri}; `gc` frees what no other version uses")


def gc(cfg: DictConfig) -> None:
    freed = garbage.gc(open_store(cfg))
    left = f", {freed.left} more when run again" if freed.left else ""
    print(f"{tqdm.format_sizeof(freed.size, 'B')} freed in {cfg.store.uri}: {freed.objects} objects{left}")


def bytes_of(version: Version) -> str:
    return tqdm.format_sizeof(version.size, "B")


def print_columns(rows: list[list[str]]) -> None:
    """Print rows as aligned columns, one line per row however wide, so that grep and awk can read them."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(map(str.ljust, row, widths)).rstrip())


VERBS: dict[str, Callable[[DictConfig], None]] = {
    each.__name__: each for each in (push, ls, show, pull, verify, rm, gc)
}
USAGE = """\
usage: python -m plant_pathology.datastore <verb> [key=value ...]

  push    store the prepared data as a version       push store.note="five folds"
  ls      list all versions                          ls store.uri=file:///data/store
  show    one version: lineage, settings, files      show data.ref=plant-pathology:3
  pull    copy a version into a folder               pull data.ref=plant-pathology:3 store.into=copy
  verify  read and check every byte of a version     verify store=s3 store.uri=s3://bucket/prefix
  rm      remove a version, and its number for good  rm data.ref=plant-pathology:2
  gc      delete what no version uses any more       gc

Without data.ref, the version is the one pushed last (paths.pointer). `<verb> --help` shows all keys."""


if __name__ == "__main__":
    run_verb(VERBS, USAGE)
