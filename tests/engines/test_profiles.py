"""What the optimization profiles of a TensorRT engine take: pure arithmetic, tested without TensorRT."""

import pytest

from genrecall.errors import UserError
from inference_server.engines.tensorrt_engine import Most, largest_batch, widest_beam

PROFILES = [Most(1, 32, 500), Most(8, 64, 50), Most(32, 128, 100)]


def test_the_widest_beam_is_one_that_prompts_of_every_length_may_have() -> None:
    assert widest_beam(PROFILES, 32) == 500
    assert widest_beam(PROFILES, 33) == widest_beam(PROFILES, 128) == 100


def test_an_engine_too_short_for_the_generators_prompts_is_refused_at_the_start() -> None:
    with pytest.raises(UserError, match=r"prompts of 128 tokens at most, and this generator reads 129: .*BATCHx129x"):
        widest_beam(PROFILES, 129)


@pytest.mark.parametrize(("tokens", "beams", "batch"), [(32, 500, 1), (32, 100, 32), (64, 20, 32), (10, 101, 1)])
def test_a_batch_is_as_large_as_a_profile_of_its_prompts_and_beams_allows(tokens: int, beams: int, batch: int) -> None:
    assert largest_batch(PROFILES, tokens, beams) == batch
