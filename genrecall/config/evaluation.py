"""Configuration of evaluation."""

from genrecall.config.base import Section


class EvaluationSection(Section):
    pass
