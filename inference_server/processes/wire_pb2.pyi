from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Workload(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SEARCH: _ClassVar[Workload]
    SCORE: _ClassVar[Workload]
    ENCODE: _ClassVar[Workload]
SEARCH: Workload
SCORE: Workload
ENCODE: Workload

class FrontendMessage(_message.Message):
    __slots__ = ("submit", "cancel", "prepared", "released", "metrics")
    SUBMIT_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    PREPARED_FIELD_NUMBER: _ClassVar[int]
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    submit: SubmitCall
    cancel: int
    prepared: int
    released: int
    metrics: bytes
    def __init__(self, submit: _Optional[_Union[SubmitCall, _Mapping]] = ..., cancel: _Optional[int] = ..., prepared: _Optional[int] = ..., released: _Optional[int] = ..., metrics: _Optional[bytes] = ...) -> None: ...

class EngineMessage(_message.Message):
    __slots__ = ("reply", "prepare", "activate")
    REPLY_FIELD_NUMBER: _ClassVar[int]
    PREPARE_FIELD_NUMBER: _ClassVar[int]
    ACTIVATE_FIELD_NUMBER: _ClassVar[int]
    reply: CallReply
    prepare: BundleSet
    activate: int
    def __init__(self, reply: _Optional[_Union[CallReply, _Mapping]] = ..., prepare: _Optional[_Union[BundleSet, _Mapping]] = ..., activate: _Optional[int] = ...) -> None: ...

class SubmitCall(_message.Message):
    __slots__ = ("call", "engine", "workload", "width", "remaining_s", "work_items")
    CALL_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    WORKLOAD_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    REMAINING_S_FIELD_NUMBER: _ClassVar[int]
    WORK_ITEMS_FIELD_NUMBER: _ClassVar[int]
    call: int
    engine: int
    workload: Workload
    width: int
    remaining_s: float
    work_items: _containers.RepeatedCompositeFieldContainer[WorkItem]
    def __init__(self, call: _Optional[int] = ..., engine: _Optional[int] = ..., workload: _Optional[_Union[Workload, str]] = ..., width: _Optional[int] = ..., remaining_s: _Optional[float] = ..., work_items: _Optional[_Iterable[_Union[WorkItem, _Mapping]]] = ...) -> None: ...

class WorkItem(_message.Message):
    __slots__ = ("length", "cost", "tokens", "recent", "profile", "codes", "category", "terms", "gate")
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    RECENT_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    CODES_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    GATE_FIELD_NUMBER: _ClassVar[int]
    length: int
    cost: float
    tokens: bytes
    recent: bytes
    profile: bytes
    codes: bytes
    category: _containers.RepeatedScalarFieldContainer[str]
    terms: bytes
    gate: float
    def __init__(self, length: _Optional[int] = ..., cost: _Optional[float] = ..., tokens: _Optional[bytes] = ..., recent: _Optional[bytes] = ..., profile: _Optional[bytes] = ..., codes: _Optional[bytes] = ..., category: _Optional[_Iterable[str]] = ..., terms: _Optional[bytes] = ..., gate: _Optional[float] = ...) -> None: ...

class CallReply(_message.Message):
    __slots__ = ("call", "result", "failure")
    CALL_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    call: int
    result: CallResult
    failure: CallFailure
    def __init__(self, call: _Optional[int] = ..., result: _Optional[_Union[CallResult, _Mapping]] = ..., failure: _Optional[_Union[CallFailure, _Mapping]] = ...) -> None: ...

class CallResult(_message.Message):
    __slots__ = ("results", "compute_ms", "batch_sizes")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_MS_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZES_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[WorkResult]
    compute_ms: float
    batch_sizes: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, results: _Optional[_Iterable[_Union[WorkResult, _Mapping]]] = ..., compute_ms: _Optional[float] = ..., batch_sizes: _Optional[_Iterable[int]] = ...) -> None: ...

class WorkResult(_message.Message):
    __slots__ = ("codes", "scores")
    CODES_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    codes: bytes
    scores: bytes
    def __init__(self, codes: _Optional[bytes] = ..., scores: _Optional[bytes] = ...) -> None: ...

class CallFailure(_message.Message):
    __slots__ = ("reason", "message", "pushback_ms")
    class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        ERROR: _ClassVar[CallFailure.Reason]
        QUEUE_FULL: _ClassVar[CallFailure.Reason]
        LIMIT_EXCEEDED: _ClassVar[CallFailure.Reason]
        DEADLINE_EXCEEDED: _ClassVar[CallFailure.Reason]
        SHUTTING_DOWN: _ClassVar[CallFailure.Reason]
    ERROR: CallFailure.Reason
    QUEUE_FULL: CallFailure.Reason
    LIMIT_EXCEEDED: CallFailure.Reason
    DEADLINE_EXCEEDED: CallFailure.Reason
    SHUTTING_DOWN: CallFailure.Reason
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    PUSHBACK_MS_FIELD_NUMBER: _ClassVar[int]
    reason: CallFailure.Reason
    message: str
    pushback_ms: int
    def __init__(self, reason: _Optional[_Union[CallFailure.Reason, str]] = ..., message: _Optional[str] = ..., pushback_ms: _Optional[int] = ...) -> None: ...

class BundleSet(_message.Message):
    __slots__ = ("id", "current", "engines")
    ID_FIELD_NUMBER: _ClassVar[int]
    CURRENT_FIELD_NUMBER: _ClassVar[int]
    ENGINES_FIELD_NUMBER: _ClassVar[int]
    id: int
    current: str
    engines: _containers.RepeatedCompositeFieldContainer[Engine]
    def __init__(self, id: _Optional[int] = ..., current: _Optional[str] = ..., engines: _Optional[_Iterable[_Union[Engine, _Mapping]]] = ...) -> None: ...

class Engine(_message.Message):
    __slots__ = ("id", "name", "path")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    id: int
    name: str
    path: str
    def __init__(self, id: _Optional[int] = ..., name: _Optional[str] = ..., path: _Optional[str] = ...) -> None: ...
