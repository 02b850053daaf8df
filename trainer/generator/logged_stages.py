"""The stages that learn from logged requests, 3 and 4, the same for both kinds of generator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainer.alignment import align
from trainer.generator.job import Job
from trainer.generator.stages import Inputs, user_stage


def logged_stages(
    job: Job, model: Any, inputs: Inputs, work: Path, user_key: str, alignment_key: str
) -> dict[str, dict[str, Any]]:
    """Run those that the configuration asks for and the logs allow; their metrics by name. Keys: of `Job.keys`."""
    stages = {}
    if job.user:
        stages["user"] = user_stage(job, model, inputs, work / f"user-{user_key}")
    if job.requests is not None and job.section.alignment.steps:
        stages["alignment"] = align(job, model, inputs, work / f"alignment-{alignment_key}")
    return stages
