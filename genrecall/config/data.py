"""Configuration of data."""

from genrecall.config.base import Section


class DataSection(Section):
    pass
