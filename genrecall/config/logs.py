"""Behaviour logs: which requests are kept, how they are split, how much of a user's history goes with one."""

from typing import Literal

from pydantic import Field

from genrecall.config.base import Section


class LogsSection(Section):
    use: Literal["auto", "never"] = Field(
        "auto", description="auto: where the dataset has logs; never: as if it had none"
    )
    recent: int = Field(20, ge=0, le=1000, description="items of a user's past kept with a request")
    session_minutes: float = Field(30.0, gt=0, description="a longer pause ends a session")
    max_session_requests: int = Field(100, ge=1, description="a client with a longer session counts as a bot")
    max_day_requests: int = Field(500, ge=1, description="a client with more requests in a day counts as a bot")
    max_click_rate: float = Field(
        0.9, gt=0, le=1, description="a client that clicks a larger share of what it is shown counts as a bot"
    )
    min_bot_exposures: int = Field(200, ge=1, description="exposures before a client's click rate counts")
    split: Literal["query", "time"] = Field(
        "query",
        description="query: a request goes where its query, or a reordering of it, is judged; all others are trained "
        "on. time: the newest are held out as well",
    )
    dev_share: float = Field(0.1, gt=0, lt=0.5, description="of the time span's requests, with split=time")
    test_share: float = Field(0.1, ge=0, lt=0.5, description="of the requests, the newest, with split=time")
    partitions: int = Field(
        0,
        ge=0,
        le=4096,
        description="files by client, one in memory at a time; 0: as many as the size of the logs asks for",
    )
