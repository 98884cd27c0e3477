"""Say how long Kaggle lets a kernel run on its machine, and how long that leaves for an image on this one."""

from dataclasses import dataclass

from omegaconf import DictConfig

from plant_pathology.competition.spec import Competition
from plant_pathology.core.schema import CPU

FASTER = (
    "choose another package.accelerator, fewer data.views or a smaller network, or set rehearse.speedup if Kaggle's"
    " machine is faster than this one"
)


@dataclass(frozen=True)
class TimeLimit:
    """Kaggle's time limit for a kernel, and what it is compared with.

    Args:
        accelerator: the kernel's machine, `package.accelerator`.
        seconds: the limit.
        images: number of images in Kaggle's hidden test set.
        margin: safety factor: the estimated time times `margin` must not exceed the limit.
        speedup: speed of Kaggle's machine relative to this one.
    """

    accelerator: str = CPU
    seconds: float = 9 * 3600
    images: int = 5000
    margin: float = 2
    speedup: float = 1

    @classmethod
    def from_config(cls, cfg: DictConfig, competition: Competition) -> "TimeLimit":
        """Return the competition's limit for `package.accelerator`, or `rehearse.timeout_s` where that is set."""
        hours = competition.cpu_hours if cfg.package.accelerator == CPU else competition.gpu_hours
        return cls(
            accelerator=cfg.package.accelerator,
            seconds=3600 * hours if cfg.rehearse.timeout_s is None else cfg.rehearse.timeout_s,
            images=cfg.rehearse.hidden_images,
            margin=cfg.rehearse.margin,
            speedup=cfg.rehearse.speedup,
        )

    @property
    def per_image(self) -> float:
        """Return the seconds that an image may take on this machine."""
        return self.seconds * self.speedup / self.margin / self.images

    def on_kaggle(self, per_image: float) -> float:
        """Return the seconds that the hidden test set would take on Kaggle, from the seconds per image here."""
        return per_image * self.images / self.speedup

    def problem(self, per_image: float) -> str | None:
        """Return why images that take so many seconds here would take too long on Kaggle; None if they would not."""
        estimate = self.on_kaggle(per_image)
        if estimate * self.margin <= self.seconds:
            return None
        return (
            f"{self.images} images at {per_image:.3g} s each would take {in_hours(estimate)} hours; times"
            f" rehearse.margin={self.margin:g} that exceeds the {in_hours(self.seconds)} hours that Kaggle gives"
            f" package.accelerator={self.accelerator}"
        )


def in_hours(seconds: float) -> str:
    """Return seconds as hours with three digits."""
    return f"{seconds / 3600:.3g}"
