"""What Kaggle's machine grants a kernel, and whether a kernel that ran here would stay within it there."""

from dataclasses import dataclass

from omegaconf import DictConfig

from plant_pathology.kernel.submission_check import Check

GB = 10**9
START_S = 600  # in which a kernel is up and predicts its first images, on a slow disk too
ENOUGH = 100  # images, before which a kernel's start is most of its time
# What a traceback or a log ends with where a machine's limit was reached.
EXCEEDED = ("MemoryError", "can't allocate memory", "No space left on device", "File too large", "killed")


@dataclass(frozen=True)
class Limits:
    """`rehearse:` in conf/params.yaml.

    Args:
        cores, memory_gb: of the machine.
        disk_gb: that /kaggle/working may hold.
        timeout_s: of a kernel.
        hidden_images: that the hidden test set has on Kaggle.
        margin: safety factor: the estimated time times `margin` must not exceed `timeout_s`.
        speedup: of Kaggle's machine over the CPU on which a kernel is rehearsed.
    """

    cores: int = 4
    memory_gb: float = 29
    disk_gb: float = 20
    timeout_s: float = 32400
    hidden_images: int = 5000
    margin: float = 2
    speedup: float = 1

    @classmethod
    def from_config(cls, cfg: DictConfig) -> "Limits":
        return cls(**{key: cfg.rehearse[key] for key in cls.__dataclass_fields__})

    @property
    def memory(self) -> int:
        """Bytes."""
        return int(self.memory_gb * GB)

    @property
    def disk(self) -> int:
        """Bytes."""
        return int(self.disk_gb * GB)

    def patience(self, images: int) -> float:
        """Seconds after which a kernel that predicts so many images is too slow, however fast it would go on."""
        return START_S + self.timeout_s / self.margin * self.speedup * images / self.hidden_images

    def estimated_seconds(self, seconds: float, images: int) -> float | None:
        """Seconds on Kaggle for the hidden test set, of a kernel that took `seconds` for `images` here; its start is
        counted with every image, so that this is rather too much. None where it would be all start."""
        return seconds / images * self.hidden_images / self.speedup if images >= ENOUGH else None

    def check_time(self, seconds: float, images: int, timed_out: bool) -> Check:
        rate, estimate = f"{seconds:.0f} s for {images} images", self.estimated_seconds(seconds, images)
        if timed_out:
            return Check(False, f"Notebook Timeout: not done after {rate}")
        if estimate is None:
            return Check(True, rate)
        rate += f", so {estimate:.0f} s for {self.hidden_images} on Kaggle"
        if estimate * self.margin > self.timeout_s:
            return Check(
                False,
                f"Notebook Timeout: {rate}, which is more than {self.timeout_s:g} s by rehearse.margin={self.margin:g}:"
                " lower select.seconds, or set rehearse.speedup where Kaggle's machine is faster",
            )
        return Check(True, rate)

    def check_compute(self, peak_memory: int, disk_used: int, error: str | None) -> Check:
        used = f"{peak_memory / GB:.2f} of {self.memory_gb:g} GB of memory"
        used += f", {disk_used / GB:.2f} of {self.disk_gb:g} GB of disk"
        signs = [sign for sign in EXCEEDED if sign in (error or "")]
        if signs or peak_memory > self.memory or disk_used > self.disk:
            return Check(False, f"Notebook Exceeded Allowed Compute: {', '.join([*signs, used])}")
        return Check(True, used)
