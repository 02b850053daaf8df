"""Run as a process by `test_interruptions`: all stages of a small `encoder` generator in the folder given."""

import json
import sys
from pathlib import Path

import torch

from genrecall.config.encoder import EncoderSection
from genrecall.config.generator import AlignmentSection, StageSection, UserSection
from tests.generator.shop import TINY, requests, shop_data
from trainer.generator import TrainingSettings, train_generator

FEW = StageSection(steps=30, batch=32, lr=5e-3, warmup_steps=5, evaluate_every=10)
SECTION = TINY.model_copy(
    update={
        "encoder": TINY.encoder.model_copy(update={"stage": FEW}),
        "user": UserSection(stage=FEW),
        "alignment": AlignmentSection(steps=30, batch=8, evaluate_every=10, lr=1e-3),
    }
)

if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    encoder = EncoderSection(checkpoint=str(folder.parent / "encoder"), max_tokens=16)
    cache = folder.parent / "cache"
    data = shop_data(encoder, cache, (requests(200), requests(40, 1)))
    settings = TrainingSettings(SECTION, encoder, seed=3, cache_dir=cache, progress=False)
    metrics = train_generator(data, settings, folder / "generator", folder / "work")
    (folder / "metrics.json").write_text(json.dumps(metrics))
