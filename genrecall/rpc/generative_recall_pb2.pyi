from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class User(_message.Message):
    __slots__ = ("gender", "age_band", "recent_sids", "recent_items")
    GENDER_FIELD_NUMBER: _ClassVar[int]
    AGE_BAND_FIELD_NUMBER: _ClassVar[int]
    RECENT_SIDS_FIELD_NUMBER: _ClassVar[int]
    RECENT_ITEMS_FIELD_NUMBER: _ClassVar[int]
    gender: str
    age_band: str
    recent_sids: _containers.RepeatedScalarFieldContainer[str]
    recent_items: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, gender: _Optional[str] = ..., age_band: _Optional[str] = ..., recent_sids: _Optional[_Iterable[str]] = ..., recent_items: _Optional[_Iterable[str]] = ...) -> None: ...

class Query(_message.Message):
    __slots__ = ("text", "user", "without_memory")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    WITHOUT_MEMORY_FIELD_NUMBER: _ClassVar[int]
    text: str
    user: User
    without_memory: bool
    def __init__(self, text: _Optional[str] = ..., user: _Optional[_Union[User, _Mapping]] = ..., without_memory: _Optional[bool] = ...) -> None: ...

class GenerateRequest(_message.Message):
    __slots__ = ("codebook", "queries", "k", "beam_width")
    CODEBOOK_FIELD_NUMBER: _ClassVar[int]
    QUERIES_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    BEAM_WIDTH_FIELD_NUMBER: _ClassVar[int]
    codebook: str
    queries: _containers.RepeatedCompositeFieldContainer[Query]
    k: int
    beam_width: int
    def __init__(self, codebook: _Optional[str] = ..., queries: _Optional[_Iterable[_Union[Query, _Mapping]]] = ..., k: _Optional[int] = ..., beam_width: _Optional[int] = ...) -> None: ...

class GenerateResponse(_message.Message):
    __slots__ = ("codebook", "model", "results", "timings")
    CODEBOOK_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    codebook: str
    model: str
    results: _containers.RepeatedCompositeFieldContainer[Generated]
    timings: Timings
    def __init__(self, codebook: _Optional[str] = ..., model: _Optional[str] = ..., results: _Optional[_Iterable[_Union[Generated, _Mapping]]] = ..., timings: _Optional[_Union[Timings, _Mapping]] = ...) -> None: ...

class Generated(_message.Message):
    __slots__ = ("codes", "scores", "items")
    CODES_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    codes: _containers.RepeatedScalarFieldContainer[int]
    scores: _containers.RepeatedScalarFieldContainer[float]
    items: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, codes: _Optional[_Iterable[int]] = ..., scores: _Optional[_Iterable[float]] = ..., items: _Optional[_Iterable[int]] = ...) -> None: ...

class Timings(_message.Message):
    __slots__ = ("queue_ms", "encode_ms", "search_ms", "total_ms")
    QUEUE_MS_FIELD_NUMBER: _ClassVar[int]
    ENCODE_MS_FIELD_NUMBER: _ClassVar[int]
    SEARCH_MS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_MS_FIELD_NUMBER: _ClassVar[int]
    queue_ms: float
    encode_ms: float
    search_ms: float
    total_ms: float
    def __init__(self, queue_ms: _Optional[float] = ..., encode_ms: _Optional[float] = ..., search_ms: _Optional[float] = ..., total_ms: _Optional[float] = ...) -> None: ...

class ScoreRequest(_message.Message):
    __slots__ = ("codebook", "query", "codes")
    CODEBOOK_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    CODES_FIELD_NUMBER: _ClassVar[int]
    codebook: str
    query: Query
    codes: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, codebook: _Optional[str] = ..., query: _Optional[_Union[Query, _Mapping]] = ..., codes: _Optional[_Iterable[int]] = ...) -> None: ...

class ScoreResponse(_message.Message):
    __slots__ = ("codebook", "model", "scores", "timings")
    CODEBOOK_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    codebook: str
    model: str
    scores: _containers.RepeatedScalarFieldContainer[float]
    timings: Timings
    def __init__(self, codebook: _Optional[str] = ..., model: _Optional[str] = ..., scores: _Optional[_Iterable[float]] = ..., timings: _Optional[_Union[Timings, _Mapping]] = ...) -> None: ...

class Item(_message.Message):
    __slots__ = ("item_id", "title", "category", "brand", "text")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    BRAND_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    title: str
    category: _containers.RepeatedScalarFieldContainer[str]
    brand: str
    text: str
    def __init__(self, item_id: _Optional[str] = ..., title: _Optional[str] = ..., category: _Optional[_Iterable[str]] = ..., brand: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class EncodeRequest(_message.Message):
    __slots__ = ("codebook", "items")
    CODEBOOK_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    codebook: str
    items: _containers.RepeatedCompositeFieldContainer[Item]
    def __init__(self, codebook: _Optional[str] = ..., items: _Optional[_Iterable[_Union[Item, _Mapping]]] = ...) -> None: ...

class EncodeResponse(_message.Message):
    __slots__ = ("codebook", "codes")
    CODEBOOK_FIELD_NUMBER: _ClassVar[int]
    CODES_FIELD_NUMBER: _ClassVar[int]
    codebook: str
    codes: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, codebook: _Optional[str] = ..., codes: _Optional[_Iterable[int]] = ...) -> None: ...

class DescribeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescribeResponse(_message.Message):
    __slots__ = ("server_version", "current_codebook", "codebooks", "limits")
    SERVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    CURRENT_CODEBOOK_FIELD_NUMBER: _ClassVar[int]
    CODEBOOKS_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    server_version: str
    current_codebook: str
    codebooks: _containers.RepeatedCompositeFieldContainer[Codebook]
    limits: Limits
    def __init__(self, server_version: _Optional[str] = ..., current_codebook: _Optional[str] = ..., codebooks: _Optional[_Iterable[_Union[Codebook, _Mapping]]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ...) -> None: ...

class Codebook(_message.Message):
    __slots__ = ("codebook", "model", "level_sizes", "sids", "items", "kind", "engine", "max_beam_width")
    CODEBOOK_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LEVEL_SIZES_FIELD_NUMBER: _ClassVar[int]
    SIDS_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    MAX_BEAM_WIDTH_FIELD_NUMBER: _ClassVar[int]
    codebook: str
    model: str
    level_sizes: _containers.RepeatedScalarFieldContainer[int]
    sids: int
    items: int
    kind: str
    engine: str
    max_beam_width: int
    def __init__(self, codebook: _Optional[str] = ..., model: _Optional[str] = ..., level_sizes: _Optional[_Iterable[int]] = ..., sids: _Optional[int] = ..., items: _Optional[int] = ..., kind: _Optional[str] = ..., engine: _Optional[str] = ..., max_beam_width: _Optional[int] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_queries", "max_query_chars", "max_k", "max_beam_width", "max_recent", "max_request_bytes", "max_score_sids", "max_items", "max_item_chars")
    MAX_QUERIES_FIELD_NUMBER: _ClassVar[int]
    MAX_QUERY_CHARS_FIELD_NUMBER: _ClassVar[int]
    MAX_K_FIELD_NUMBER: _ClassVar[int]
    MAX_BEAM_WIDTH_FIELD_NUMBER: _ClassVar[int]
    MAX_RECENT_FIELD_NUMBER: _ClassVar[int]
    MAX_REQUEST_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_SCORE_SIDS_FIELD_NUMBER: _ClassVar[int]
    MAX_ITEMS_FIELD_NUMBER: _ClassVar[int]
    MAX_ITEM_CHARS_FIELD_NUMBER: _ClassVar[int]
    max_queries: int
    max_query_chars: int
    max_k: int
    max_beam_width: int
    max_recent: int
    max_request_bytes: int
    max_score_sids: int
    max_items: int
    max_item_chars: int
    def __init__(self, max_queries: _Optional[int] = ..., max_query_chars: _Optional[int] = ..., max_k: _Optional[int] = ..., max_beam_width: _Optional[int] = ..., max_recent: _Optional[int] = ..., max_request_bytes: _Optional[int] = ..., max_score_sids: _Optional[int] = ..., max_items: _Optional[int] = ..., max_item_chars: _Optional[int] = ...) -> None: ...
