from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Lane(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SEARCH: _ClassVar[Lane]
    SCORE: _ClassVar[Lane]
    ENCODE: _ClassVar[Lane]
SEARCH: Lane
SCORE: Lane
ENCODE: Lane

class FromFront(_message.Message):
    __slots__ = ("submit", "cancel", "loaded", "released", "metrics")
    SUBMIT_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    LOADED_FIELD_NUMBER: _ClassVar[int]
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    submit: Submit
    cancel: int
    loaded: int
    released: int
    metrics: bytes
    def __init__(self, submit: _Optional[_Union[Submit, _Mapping]] = ..., cancel: _Optional[int] = ..., loaded: _Optional[int] = ..., released: _Optional[int] = ..., metrics: _Optional[bytes] = ...) -> None: ...

class FromEngine(_message.Message):
    __slots__ = ("answer", "held", "use")
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    USE_FIELD_NUMBER: _ClassVar[int]
    answer: Answer
    held: Held
    use: int
    def __init__(self, answer: _Optional[_Union[Answer, _Mapping]] = ..., held: _Optional[_Union[Held, _Mapping]] = ..., use: _Optional[int] = ...) -> None: ...

class Submit(_message.Message):
    __slots__ = ("call", "engine", "lane", "width", "remaining_s", "jobs")
    CALL_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    LANE_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    REMAINING_S_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    call: int
    engine: int
    lane: Lane
    width: int
    remaining_s: float
    jobs: _containers.RepeatedCompositeFieldContainer[Job]
    def __init__(self, call: _Optional[int] = ..., engine: _Optional[int] = ..., lane: _Optional[_Union[Lane, str]] = ..., width: _Optional[int] = ..., remaining_s: _Optional[float] = ..., jobs: _Optional[_Iterable[_Union[Job, _Mapping]]] = ...) -> None: ...

class Job(_message.Message):
    __slots__ = ("length", "cost", "tokens", "recent", "profile", "codes", "category")
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    RECENT_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    CODES_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    length: int
    cost: float
    tokens: bytes
    recent: bytes
    profile: bytes
    codes: bytes
    category: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, length: _Optional[int] = ..., cost: _Optional[float] = ..., tokens: _Optional[bytes] = ..., recent: _Optional[bytes] = ..., profile: _Optional[bytes] = ..., codes: _Optional[bytes] = ..., category: _Optional[_Iterable[str]] = ...) -> None: ...

class Answer(_message.Message):
    __slots__ = ("call", "done", "failed")
    CALL_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    call: int
    done: Done
    failed: Failed
    def __init__(self, call: _Optional[int] = ..., done: _Optional[_Union[Done, _Mapping]] = ..., failed: _Optional[_Union[Failed, _Mapping]] = ...) -> None: ...

class Done(_message.Message):
    __slots__ = ("results", "compute_ms", "batch_sizes")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_MS_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZES_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[Result]
    compute_ms: float
    batch_sizes: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, results: _Optional[_Iterable[_Union[Result, _Mapping]]] = ..., compute_ms: _Optional[float] = ..., batch_sizes: _Optional[_Iterable[int]] = ...) -> None: ...

class Result(_message.Message):
    __slots__ = ("codes", "scores")
    CODES_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    codes: bytes
    scores: bytes
    def __init__(self, codes: _Optional[bytes] = ..., scores: _Optional[bytes] = ...) -> None: ...

class Failed(_message.Message):
    __slots__ = ("reason", "message", "pushback_ms")
    class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        ERROR: _ClassVar[Failed.Reason]
        FULL: _ClassVar[Failed.Reason]
        BUSY: _ClassVar[Failed.Reason]
        EXPIRED: _ClassVar[Failed.Reason]
        STOPPED: _ClassVar[Failed.Reason]
    ERROR: Failed.Reason
    FULL: Failed.Reason
    BUSY: Failed.Reason
    EXPIRED: Failed.Reason
    STOPPED: Failed.Reason
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    PUSHBACK_MS_FIELD_NUMBER: _ClassVar[int]
    reason: Failed.Reason
    message: str
    pushback_ms: int
    def __init__(self, reason: _Optional[_Union[Failed.Reason, str]] = ..., message: _Optional[str] = ..., pushback_ms: _Optional[int] = ...) -> None: ...

class Held(_message.Message):
    __slots__ = ("number", "current", "engines")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    CURRENT_FIELD_NUMBER: _ClassVar[int]
    ENGINES_FIELD_NUMBER: _ClassVar[int]
    number: int
    current: str
    engines: _containers.RepeatedCompositeFieldContainer[Engine]
    def __init__(self, number: _Optional[int] = ..., current: _Optional[str] = ..., engines: _Optional[_Iterable[_Union[Engine, _Mapping]]] = ...) -> None: ...

class Engine(_message.Message):
    __slots__ = ("number", "name", "path")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    number: int
    name: str
    path: str
    def __init__(self, number: _Optional[int] = ..., name: _Optional[str] = ..., path: _Optional[str] = ...) -> None: ...
