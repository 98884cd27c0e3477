"""A Hydra config source in which every timm model is a config of the group `model`."""

import difflib

from hydra.errors import ConfigCompositionException
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import OmegaConf


class TimmModels(ConfigSource):
    """Serves `model=<name>` as `{name: <name>}`, so that a model is a string, as it is in timm."""

    @staticmethod
    def scheme() -> str:
        return "timm"

    def available(self) -> bool:
        return True

    def is_group(self, config_path: str) -> bool:
        return config_path.strip("/") in ("", "model")

    def is_config(self, config_path: str) -> bool:
        return config_path.startswith("model/")

    def list(self, config_path, results_filter):
        return []

    def load_config(self, config_path: str) -> ConfigResult:
        name = config_path.removeprefix("model/").removesuffix(".yaml")
        check_model(name)
        return ConfigResult(
            provider=self.provider,
            path=f"{self.scheme()}://{self.path}",
            config=OmegaConf.create({"name": name}),
            header={"package": None},
        )


def check_model(name: str) -> None:
    """Raises: ConfigCompositionException when timm has no such model, with the names that come near."""
    import timm

    if not timm.is_model(name.split(".")[0]):
        near = difflib.get_close_matches(name, timm.list_models(), n=5, cutoff=0.5)
        raise ConfigCompositionException(
            f"model={name}: timm has no such model; "
            + (f"did you mean {', '.join(near)}?" if near else "see timm.list_models()")
        )
