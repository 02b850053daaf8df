"""A tokenizer that does not know the script of a text is told of."""

import pytest

from genrecall.checkpoints import resolve
from genrecall.decoding.request_tokenizer import unknown_note, unknown_share


@pytest.mark.parametrize(
    ("text", "known"), [("red running shoes", True), ("红色运动鞋", False), ("เสื้อยืดผู้ชายสีดำ", False)]
)
def test_texts_of_a_script_that_the_encoder_does_not_know_are_warned_of(text: str, known: bool) -> None:
    folder = resolve("minilm")
    assert unknown_share(folder, [text]) == (0.0 if known else 1.0)
    note = unknown_note(folder, [text], "this text")
    assert ("100% of the tokens of this text" in note) != known
    assert ("encoder.checkpoint" in note) != known


def test_no_text_has_no_unknown_token() -> None:
    assert unknown_share(resolve("minilm"), []) == 0.0
