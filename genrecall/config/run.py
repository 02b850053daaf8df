"""The name, folders and seed of a run."""

from pathlib import Path

from pydantic import Field

from genrecall.config.base import Section


class RunSection(Section):
    name: str = Field("demo", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="results go to runs_dir/name")
    codebook: str = Field(
        "auto", pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$", description="name to publish under; auto: the next free v<n>"
    )
    seed: int = Field(13, ge=0)
    device: str = Field(
        "auto",
        description="of training, embedding and quantizer: auto (CUDA where there is some), cpu, cuda or cuda:N",
    )
    tensorboard: bool = Field(False, description="log training curves for `tensorboard --logdir` runs_dir/name as well")
    runs_dir: Path = Path("runs")
    bundles_dir: Path = Path("bundles")
    cache_dir: Path = Field(Path(".cache/genrecall"), description="embeddings and downloads, safe to delete")

    @property
    def dir(self) -> Path:
        return self.runs_dir / self.name
