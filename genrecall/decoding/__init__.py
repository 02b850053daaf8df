"""Constrained decoding of SIDs, on torch, NumPy and transformers alone.

The main path is `search` (beam search over three levels), with what it calls at every level: `tables` (which codes may
follow a prefix), `heads` (their log-probabilities) and `decoder` (the Qwen2 layers, one shared prefix for all beams).
`score` runs the same three for SIDs that are given. `evidence` scores every SID by words (`lexical`, behind
`genrecall.analyzer`) and vector (`adapter`); the decoder is mixed into that.

Before it: `request_tokenizer` (queries and users -> padded token ids; `user` has their types), `prefix_embedder` (ids
-> the prefix, for kind `encoder` through `text_encoder`). Added to the heads: `dense_prior` (node vectors, no
training). `adapter`: a small network behind the query vector. Around it: `generator` puts the parts together, `config`
reads the folder of a bundle, `export_modules` is search and scoring as functions of tensors, for ONNX and TensorRT.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genrecall.decoding.generator import GeneratedSids, Generator

__all__ = ["GeneratedSids", "Generator"]


def __getattr__(name: str) -> Any:
    """Loads torch at first use: the request tokenizer and the settings of a generator need none."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from genrecall.decoding import generator

    return getattr(generator, name)
