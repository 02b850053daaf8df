"""Items -> SIDs: CQ-SID, and hierarchical k-means as the simple baseline, behind `fit`. Importing it loads no torch."""

from trainer.quantizer.fit import Fitted, fit
from trainer.quantizer.probe import probe
from trainer.quantizer.statistics import statistics
from trainer.quantizer.types import QueryItemPairs

__all__ = ["Fitted", "QueryItemPairs", "fit", "probe", "statistics"]
