"""The search on a CUDA device gives what it gives on the CPU."""

import pytest
import torch

from genrecall.decoding.heads import LevelHeads
from genrecall.decoding.search import Prefix, beam_search
from genrecall.decoding.tables import ConstraintTables
from tests.decoding.models import lean, offsets, padded_prompts, random_lm, random_space

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("normalizer", ["children", "vocabulary"])
def test_search_on_cuda_equals_search_on_the_cpu(normalizer):
    space = random_space(3, (12, 15, 15), 400)
    model = random_lm(space, seed=3)
    ids, mask = padded_prompts([3, 9, 6], seed=3)
    found = {}
    with torch.inference_mode():
        for device in ("cpu", "cuda"):
            model.to(device)
            heads = LevelHeads(model.lm_head.weight, offsets(space), space.level_sizes, normalizer)
            prefix = Prefix(model.get_input_embeddings()(ids.to(device)), mask.to(device))
            beams = beam_search(lean(model).to(device), heads, ConstraintTables.build(space, device), prefix, 20)
            found[device] = beams.sid.cpu(), beams.scores.cpu()
    assert torch.allclose(found["cpu"][1], found["cuda"][1], atol=1e-4)
    assert (found["cpu"][0] == found["cuda"][0]).float().mean() > 0.95  # near-equal scores may change places
