"""What a run learned, read from its folder and told as one page: `collect`, `look` for what seems wrong, `write`."""

from trainer.report.collect import Candidate, Run, collect
from trainer.report.findings import look
from trainer.report.stages import Stage
from trainer.report.write import write

__all__ = ["Candidate", "Run", "Stage", "collect", "look", "write"]
