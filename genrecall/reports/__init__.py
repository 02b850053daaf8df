"""What a run learned, read from its folder and told as one page: `collect`, `look` for what seems wrong, `write`."""

from genrecall.reports.collect import Candidate, Run, collect
from genrecall.reports.findings import look
from genrecall.reports.stages import Stage
from genrecall.reports.write import write

__all__ = ["Candidate", "Run", "Stage", "collect", "look", "write"]
