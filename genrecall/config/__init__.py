"""The configuration of a run: YAML, then `key.sub=value` overrides, checked by pydantic with unknown keys refused.

Every number of a run is here or in the sections beside this file; nothing else decides behaviour. The resolved
configuration is written into the run and into the bundle's manifest.
"""

from genrecall.config.base import Section, load
from genrecall.config.root import Config

__all__ = ["Config", "Section", "load"]
