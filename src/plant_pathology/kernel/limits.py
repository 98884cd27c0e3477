"""Describe Kaggle's machine, and judge whether a kernel that ran here would stay within its limits."""

from dataclasses import dataclass

from omegaconf import DictConfig

from plant_pathology.competition.time_limit import FASTER, TimeLimit
from plant_pathology.kernel.submission_check import Check

GB = 10**9
START_S = 600  # allowed for a kernel to start and predict its first images, on a slow disk too
ENOUGH = 100  # images: with fewer, start-up dominates the time per image
# The end of a traceback or log after a limit of the machine was exceeded.
EXCEEDED = ("MemoryError", "can't allocate memory", "No space left on device", "File too large", "killed")


@dataclass(frozen=True)
class Machine:
    """Kaggle's smallest machine: keys of `rehearse:` in conf/params.yaml.

    Args:
        cores, memory_gb: of the machine.
        disk_gb: capacity of /kaggle/working.
    """

    cores: int = 4
    memory_gb: float = 29
    disk_gb: float = 20

    @classmethod
    def from_config(cls, cfg: DictConfig) -> "Machine":
        return cls(**{key: cfg.rehearse[key] for key in cls.__dataclass_fields__})

    @property
    def memory(self) -> int:
        """Bytes."""
        return int(self.memory_gb * GB)

    @property
    def disk(self) -> int:
        """Bytes."""
        return int(self.disk_gb * GB)

    def check_compute(self, peak_memory: int, disk_used: int, error: str | None) -> Check:
        """Check that memory and disk, in bytes, stayed within the limits and that no error says otherwise."""
        used = f"{peak_memory / GB:.2f} of {self.memory_gb:g} GB of memory"
        used += f", {disk_used / GB:.2f} of {self.disk_gb:g} GB of disk"
        signs = [sign for sign in EXCEEDED if sign in (error or "")]
        if signs or peak_memory > self.memory or disk_used > self.disk:
            return Check(False, f"Notebook Exceeded Allowed Compute: {', '.join([*signs, used])}")
        return Check(True, used)


def rehearsal_timeout(limit: TimeLimit, images: int) -> float:
    """Return the seconds after which a kernel that predicts `images` images is too slow for Kaggle in any case."""
    return START_S + limit.per_image * images


def estimated_seconds(limit: TimeLimit, seconds: float, images: int) -> float | None:
    """Estimate the seconds on Kaggle for the hidden test set, from `seconds` for `images` here.

    Start-up is counted as time per image, so the estimate is rather too high. None with fewer than ENOUGH images,
    where it would be all start-up.
    """
    return limit.on_kaggle(seconds / images) if images >= ENOUGH else None


def check_time(limit: TimeLimit, seconds: float, images: int, timed_out: bool) -> Check:
    """Check that the estimated time, with the margin, stays within Kaggle's time limit."""
    rate, estimate = f"{seconds:.0f} s for {images} images", estimated_seconds(limit, seconds, images)
    if timed_out:
        return Check(False, f"Notebook Timeout: not done after {rate}")
    if estimate is None:
        return Check(True, rate)
    if problem := limit.problem(seconds / images):
        return Check(False, f"Notebook Timeout: {rate}; {problem}: lower select.seconds, or {FASTER}")
    return Check(True, f"{rate}, so {estimate:.0f} s for {limit.images} on Kaggle")
