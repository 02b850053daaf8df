"""Catalogue, codes and queries -> a generator (`train_generator`)."""

from trainer.generator.train import train_generator

__all__ = ["train_generator"]
