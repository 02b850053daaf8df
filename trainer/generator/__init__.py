"""Catalogue, codes and queries -> a generator (`train_generator`)."""

from trainer.generator.context import TrainingData, TrainingSettings
from trainer.generator.train import train_generator

__all__ = ["TrainingData", "TrainingSettings", "train_generator"]
