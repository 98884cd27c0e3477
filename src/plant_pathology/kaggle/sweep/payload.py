"""Pack what a session needs into private datasets: the shards, the code, and what unfinished runs continue from.

A dataset's name ends in a hash of its content, so that the same content is uploaded once, whoever asks and however
often a command was killed, and no dataset ever has a second version. No token travels.

Archives end in .bin: Kaggle would unpack a .tar or .zip, and it allows 50 files.
"""

import shutil
import tarfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from plant_pathology.core.files import atomic_folder, visible_files, write_json
from plant_pathology.core.hashes import content_hash, file_hash
from plant_pathology.kaggle.client import Kaggle
from plant_pathology.kaggle.journal import Journal
from plant_pathology.kaggle.push import Push, version_of
from plant_pathology.kernel.build import default_slug, title_of
from plant_pathology.kernel.kaggle_image import HERE
from plant_pathology.kernel.package import Package
from plant_pathology.kernel.wheels import check_wheels, wheel_of_installed, wheel_of_modules, wheels_in
from plant_pathology.runs.folder import CONTINUE, FAILURE, JOB, METRICS, RUN, STOP
from plant_pathology.runs.resume_points import resume_points
from plant_pathology.runs.run import Run
from plant_pathology.store.keys import manifest_key, object_key
from plant_pathology.store.version import Version

# What training imports of Kaggle's image besides IMAGE in kernel/kaggle_image.py, as of November 2026.
IMAGE_FOR_TRAINING = (
    *("boto3", "filelock", "matplotlib", "opencv-python-headless", "optuna", "requests", "rich", "scipy"),
    *("tensorboard", "urllib3"),
)
# Modules that they are imported as; a session that lacks one ends before it trains.
IMPORTS = (
    *("boto3", "cv2", "filelock", "matplotlib", "numpy", "optuna", "pandas", "requests", "rich", "scipy"),
    *("tensorboard", "torch", "torchvision", "tqdm", "urllib3", "yaml"),
)
# Pure Python that travels: what the image lacks, and what decides the digits of a run.
BROUGHT = (
    *("antlr4-python3-runtime", "lightning-utilities", "omegaconf", "pytorch-lightning", "timm", "torchmetrics"),
)
ARCHIVE_BYTES = 10**9  # that an archive holds, about


@dataclass(frozen=True)
class Parcel:
    """A dataset that is, or will be, on Kaggle.

    Args:
        folder: here, for its files while they are uploaded, and its journal.
        ref: owner/slug.
        sha256: of its content.
        pack: writes its files into a folder.
    """

    folder: Path
    ref: str
    sha256: str
    pack: Callable[[Path], None]

    def upload(self, push_of: Callable[[Package, Journal], Push]) -> None:
        """Upload the dataset unless it is on Kaggle, and wait until kernels can use it.

        Raises:
            UserError: Kaggle refuses it, or is still processing it after submit.dataset_timeout_s.
        """
        journal = Journal(self.folder / "journal.json", self.sha256)
        if journal.get("dataset"):
            return
        files = self.folder / "dataset"
        if not files.exists():
            with atomic_folder(files) as work:
                self.pack(work)
                about = {"title": title_of(self.ref), "id": self.ref, "licenses": [{"name": "other"}]}
                write_json(work / "dataset-metadata.json", about)
        push = push_of(Package(self.folder, self.ref, "", {}, {"dataset": self.sha256}), journal)
        if journal.get("dataset_before") is None:
            adopt(push.kaggle, self.ref, {path.name for path in files.iterdir()}, push)
        push.upload_dataset()
        shutil.rmtree(files)


def adopt(kaggle: Kaggle, ref: str, files: set[str], push: Push) -> None:
    """Note that a dataset is on Kaggle already, from another checkout: its name says its content."""
    found = kaggle.dataset(ref)
    if found and kaggle.uploaded_names(files) <= kaggle.dataset_files(ref):
        push.journal.note(dataset=push.dataset_record(version_of(found)))


def parcel(root: Path, owner: str, competition: str, kind: str, sha256: str, pack: Callable[[Path], None]) -> Parcel:
    slug = default_slug(competition, f"{kind}-{sha256[:8]}")
    return Parcel(root / slug, f"{owner}/{slug}", sha256, pack)


def data_parcel(root: Path, owner: str, competition: str, version: Version) -> Parcel:
    """Return the dataset with one version of the datastore, in the datastore's own layout."""

    def pack(folder: Path) -> None:
        manifest = folder / "manifest.json"
        manifest.write_bytes(version.manifest())
        archives: list[list[tuple[str, Path]]] = [[(manifest_key(version.name, version.version), manifest)]]
        size = 0
        for file, entry in version.files.items():
            if size > ARCHIVE_BYTES:
                archives, size = [*archives, []], 0
            archives[-1].append((object_key(entry["sha256"]), version.open(file)))
            size += entry["size"]
        for number, content in enumerate(archives):
            write_archive(folder / f"data-{number:02d}.bin", dict(content).items())
        manifest.unlink()

    return parcel(root, owner, competition, "data", version.sha256, pack)


def code_parcel(root: Path, owner: str, competition: str, own_code: Path | None) -> Parcel:
    """Return the dataset with this package, what it needs that Kaggle's image lacks, and the competition's own code.

    Raises:
        UserError: a package that travels requires one that Kaggle's image lacks.
    """
    made = root / "code"
    shutil.rmtree(made, ignore_errors=True)
    with atomic_folder(made) as work:
        for name in BROUGHT:
            wheel_of_installed(name, work)
        check_wheels(wheels_in(work), HERE.distributions(IMAGE_FOR_TRAINING))
        package = Path(__file__).parents[2]
        wheel_of_modules(package, visible_files(package, "*.py"), [], work)  # nothing installs it
        if own_code:
            shutil.copyfile(own_code, work / own_code.name)
    sha256 = content_hash({path.name: file_hash(path) for path in sorted(made.iterdir())})

    def pack(folder: Path) -> None:
        for path in made.iterdir():
            shutil.copyfile(path, folder / path.name)

    return parcel(root, owner, competition, "code", sha256, pack)


def state_parcel(root: Path, owner: str, competition: str, runs: Sequence[Run]) -> Parcel | None:
    """Return the dataset with what runs continue from; None where all are new.

    Where `stop.keep` prunes runs, it also holds what is known of their siblings.
    """
    content = sorted((f"runs/{run.name}/{file}", run.folder / file) for run in runs for file in carried(run.folder))
    if any(run.cfg.stop.keep < 100 for run in runs):
        folders = [path.parent for path in runs[0].folder.parent.glob(f"*/{METRICS}")]
        content += [(f"runs/{folder.name}/{file}", folder / file) for folder in folders for file in (RUN, METRICS)]
    files = {name: path for name, path in content if path.exists()}
    if not files:
        return None
    sha256 = content_hash({name: file_hash(path) for name, path in files.items()})
    return parcel(
        root, owner, competition, "state", sha256, lambda folder: write_archive(folder / "state.bin", files.items())
    )


def carried(folder: Path) -> list[str]:
    """List the files that a run needs to continue on another machine; none where it has not begun.

    Notes of a user (stop, continue) travel too.
    """
    notes = [name for name in (STOP, CONTINUE) if (folder / name).exists()]
    if not resume_points(folder):
        return notes
    files = (path.relative_to(folder) for path in visible_files(folder))
    return [path.as_posix() for path in files if path.name not in (FAILURE, JOB)]


def write_archive(path: Path, files: Iterable[tuple[str, Path]]) -> None:
    """Write an archive with the same bytes for the same files, whoever owns them and however old they are."""

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.mtime, entry.mode = 0, 0o644
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        return entry

    with tarfile.open(path, "w", dereference=True) as archive:
        for name, source in sorted(files):
            archive.add(source, name, filter=plain)
