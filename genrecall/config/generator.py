"""Configuration of generator."""

from genrecall.config.base import Section


class GeneratorSection(Section):
    pass
