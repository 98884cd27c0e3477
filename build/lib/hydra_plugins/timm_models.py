"""A Hydra config source in which every timm model is a config of the group `model`."""

from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import OmegaConf


class TimmModels(ConfigSource):
    """Serves `model=<name>` as `{name: <name>}`, so that a model is a string, as it is in timm. Whether timm has it is seen
    when it is built: asking here would make every command wait for timm."""

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
        return ConfigResult(
            provider=self.provider,
            path=f"{self.scheme()}://{self.path}",
            config=OmegaConf.create({"name": name}),
            header={"package": None},
        )
