"""Configuration of opensearch."""

from genrecall.config.base import Section


class OpenSearchSection(Section):
    pass
