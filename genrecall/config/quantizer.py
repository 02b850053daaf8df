"""Configuration of quantizer."""

from genrecall.config.base import Section


class QuantizerSection(Section):
    pass
