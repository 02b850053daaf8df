"""A generated shop of any size: items, queries with graded relevance, behaviour logs. Everything in it is simulated."""

from genrecall.synthesize.write import synthesize

__all__ = ["synthesize"]
