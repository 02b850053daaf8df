"""The one report writer: what the parts wrote as JSON -> Markdown, HTML and plots.

    trainer, evaluation -> facts (JSON) -> templates/*.md.j2 -> Markdown -> the same as HTML
                                        -> plots             -> PNG

A run is read from its folder: `collect`, `diagnose` what seems wrong, `write_run`.
"""

from genrecall.reports.codes import codes_report, model_card
from genrecall.reports.collect import Candidate, Run, collect
from genrecall.reports.evaluation import evaluation_report, summary, verdict
from genrecall.reports.findings import diagnose
from genrecall.reports.logs import logs_report
from genrecall.reports.run import run_report, write_run
from genrecall.reports.stages import Stage

__all__ = [
    "Candidate",
    "Run",
    "Stage",
    "codes_report",
    "collect",
    "diagnose",
    "evaluation_report",
    "logs_report",
    "model_card",
    "run_report",
    "summary",
    "verdict",
    "write_run",
]
