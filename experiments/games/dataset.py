"""The amazon-games dataset: real purchase histories, with queries derived from titles since none were logged.

16,859 titles and 50,546 users, as RUCAIBox/LLMRank ships them (Hou et al. 2024, "Large language models are zero-shot
rankers for recommender systems"), from the Amazon review data of 2018. The files give the order of a user's purchases,
not their time. Here each purchase is one logged query with one purchase on an invented day: the last of every user (the
test target) on day 1001, the one before it (the validation target) on day 1000, all others earlier, so that a split by
time is the leave-one-out protocol. Which items were shown is not known: exposures are empty.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from experiments.games.derived_queries import Matcher, candidate_words, derive, frequencies, is_weak, words_of
from experiments.games.raw_files import FILES, TEST_FILE, TITLES_FILE, VALID_FILE, read_histories, read_titles
from genrecall.data.fetch import fetch_files
from genrecall.data.writers import json_lines, new_dataset, timestamp, write_description
from genrecall.errors import UserError
from genrecall.progress import OnProgress, no_progress

NAME = "amazon-games"
DAY_0 = datetime(2016, 1, 1, tzinfo=UTC)
DEV_DAY = 1000  # of the validation targets; the test targets are on the day after
LATEST_S = 86_000  # latest second of a day for a query, so that its purchase is on the same day
DECIDING_S = 60  # from the query to the purchase
TRAIN, DEV, TEST = PARTS = ("train", "dev", "test")


@dataclass(frozen=True)
class Purchase:
    """One purchase and the query derived for it.

    Attributes:
        number: of the user's purchases, from 1.
        part: one of PARTS, by its day.
        time: of the query.
        query: "" where the item has no title, or its title has no suitable word.
    """

    number: int
    item: str
    part: str
    time: datetime
    query: str


def fetch_games(
    to: Path,
    sources: list[Path],
    users: int | None = None,
    seed: int = 13,
    progress: OnProgress = no_progress,
) -> tuple[str, dict[str, Any]]:
    """Fill the folder `to`; return where the files came from, or "already there", and what `dataset.json` says.

    Args:
        to: the folder to fill; kept where it was made with the same `users` and `seed`.
        sources: as of `genrecall.data.fetch.fetch`.
        users: as many users, drawn by `seed`; None: all. The catalogue is whole either way.
        seed: of the draw, of the derived queries and of the invented days.
        progress: file or stage, done, in all.

    Raises:
        UserError: as of `genrecall.data.fetch.fetch`; files that are not of one another.
    """
    settings = {"users": users, "seed": seed}
    present = _read_description(to)
    if present.get("name") == NAME:
        if present["about"]["settings"] == settings:
            return "already there", present
        raise UserError(
            f"{to} holds {NAME} with {_options(present['about']['settings'])}, not with {_options(settings)}: move it "
            "away, or give another --to"
        )
    with new_dataset(to, "--to") as folder, tempfile.TemporaryDirectory() as raw:
        origin = fetch_files(FILES, Path(raw), sources, progress)
        description = convert(Path(raw), folder, users, seed, progress)
    return origin, description


def convert(
    raw: Path,
    folder: Path,
    users: int | None = None,
    seed: int = 13,
    progress: OnProgress = no_progress,
) -> dict[str, Any]:
    """Write items, logs and `dataset.json` to `folder`; arguments as of `fetch_games`; raw: holds FILES, unchecked."""
    titles = read_titles(raw / TITLES_FILE.name)
    histories = _sample(read_histories(raw / VALID_FILE.name, raw / TEST_FILE.name), users, seed)
    words = {item: words_of(title) for item, title in titles.of.items()}
    with json_lines(folder / "items.jsonl.gz") as write:
        for item, title in titles.of.items():
            write({"item_id": item, "title": title})
    queries, left_out = _write_logs(histories, words, seed, folder, progress)
    requests = {part: queries[part].total() for part in PARTS}
    dev_share, test_share = shares(*requests.values())
    same_title = Counter(title.casefold() for title in titles.of.values())
    about = {
        "note": "queries are derived from titles; purchases are real, and so is their order; their days are invented, "
        "and what was shown is not known",
        "origin": "Amazon review data (2018), video games, as shipped by RUCAIBox/LLMRank",
        "licence": "MIT",
        "files": {file.name: file.sha256 for file in FILES},
        "settings": {"users": users, "seed": seed},
        "split": {"split": "time", "dev_share": dev_share, "test_share": test_share},
        "items": len(titles.of),
        "items_with_the_title_of_another": sum(count for count in same_title.values() if count > 1),
        "rows_left_out": {"empty title": titles.empty, "duplicate id": titles.duplicate},
        "users": len(histories),
        "requests": requests,
        "purchases_left_out": left_out,
        **_about_queries(queries, Matcher(words.values())),
    }
    description = {"name": NAME, "simulated": True, "about": about}
    write_description(folder, description)
    return description


def _write_logs(
    histories: dict[str, list[str]], words: dict[str, list[str]], seed: int, folder: Path, progress: OnProgress
) -> tuple[dict[str, Counter[str]], dict[str, int]]:
    """ubi_queries.jsonl.gz and ubi_events.jsonl.gz. Returns the queries by part, and the purchases left out."""
    frequency, candidates = frequencies(words.values()), {item: candidate_words(title) for item, title in words.items()}
    queries: dict[str, Counter[str]] = {part: Counter() for part in PARTS}
    left_out = {"item without a title": 0, "no word to ask for": 0}
    with (
        json_lines(folder / "ubi_queries.jsonl.gz") as write_query,
        json_lines(folder / "ubi_events.jsonl.gz") as write_event,
    ):
        for done, (user, items) in enumerate(histories.items(), 1):
            for purchase in purchases(user, items, candidates, frequency, seed):
                if not purchase.query:
                    left_out["no word to ask for" if purchase.item in words else "item without a title"] += 1
                    continue
                queries[purchase.part][purchase.query] += 1
                query, event = records(user, purchase)
                write_query(query)
                write_event(event)
            progress("users", done, len(histories))
    return queries, left_out


def purchases(
    user: str, items: list[str], words: dict[str, list[str]], frequency: Counter[str], seed: int
) -> Iterator[Purchase]:
    """A user's purchases in their order, each on a day of its own; the same arguments give the same ones.

    Args:
        items: oldest first, the last two being the targets.
        words: item -> the words of its title that a query may take; frequency: in how many titles each occurs.
    """
    history = len(items) - 2
    if history > DEV_DAY:
        raise UserError(f"user {user!r} has {history} purchases before the targets: the logs have {DEV_DAY} days")
    rng = random.Random(f"{seed}/{user}")
    days = [*sorted(rng.sample(range(DEV_DAY), history)), DEV_DAY, DEV_DAY + 1]
    parts = [TRAIN] * history + [DEV, TEST]
    for number, (item, day, part) in enumerate(zip(items, days, parts, strict=True), 1):
        time = DAY_0 + timedelta(days=day, milliseconds=rng.randrange(LATEST_S * 1000))
        yield Purchase(number, item, part, time, derive(words.get(item, []), frequency, f"{seed}/{user}/{item}"))


def records(user: str, purchase: Purchase) -> tuple[dict[str, Any], dict[str, Any]]:
    """A purchase as UBI 1.3: a row of ubi_queries and a row of ubi_events."""
    common = {
        "query_id": f"u{user}-{purchase.number:03}",
        "client_id": f"u{user}",
        "application": NAME,
        "user_query": purchase.query,
    }
    query = {
        **common,
        "timestamp": timestamp(purchase.time),
        "object_id_field": "item_id",
        "query_response_hit_ids": [],
    }
    event = {
        **common,
        "action_name": "purchase",
        "timestamp": timestamp(purchase.time + timedelta(seconds=DECIDING_S)),
        "event_attributes": {"object": {"object_id": purchase.item, "object_id_field": "item_id"}},
    }
    return query, event


def shares(train: int, dev: int, test: int) -> tuple[float, float]:
    """logs.dev_share and logs.test_share that split so many requests by time exactly where the last two days begin.

    UserError where no shares do: too few requests before these days.
    """
    total = max(1, train + dev + test)
    cut = dev / total, test / total
    exact = [round(total * share) for share in cut] == [dev, test]  # as the trainer rounds
    if not exact or not all(0 < share < 0.5 for share in cut):
        raise UserError(
            f"{train} purchases before {dev} and {test} targets: no logs.dev_share and logs.test_share below one half "
            "part them; the histories are too short"
        )
    return cut


def _about_queries(queries: dict[str, Counter[str]], matcher: Matcher) -> dict[str, Any]:
    """Length and ambiguity of the queries, by requests: a query that occurs twice counts twice."""
    every = sum(queries.values(), Counter())
    matches = {query: matcher.count(query) for query in every}
    length: Counter[int] = Counter()
    for query, times in every.items():
        length[len(query.split())] += times
    return {
        "queries": len(every),
        "requests_by_words": {str(words): length[words] for words in sorted(length)},
        "requests_of_platform_or_colour_alone": sum(times for query, times in every.items() if is_weak(query)),
        "items_with_all_words_of_a_request": {
            name: _distribution([matches[query] for query in of], list(of.values()))
            for name, of in (("all", every), ("test", queries[TEST]))
        },
    }


def _distribution(values: list[int], times: list[int]) -> dict[str, float]:
    every = np.repeat(values, times)
    lower, median, upper = np.quantile(every, [0.25, 0.5, 0.75], method="inverted_cdf").tolist()
    return {
        "lower_quartile": lower,
        "median": median,
        "upper_quartile": upper,
        "most": int(every.max()),
        "share_with_1": round(float((every == 1).mean()), 4),
    }


def _sample(histories: dict[str, list[str]], users: int | None, seed: int) -> dict[str, list[str]]:
    if users is None:
        return histories
    if not 1 <= users <= len(histories):
        raise UserError(f"--users {users}: there are {len(histories):,}; give a number from 1 to that, or leave it out")
    chosen = sorted(random.Random(f"{seed}/users").sample(range(len(histories)), users))
    names = list(histories)
    return {names[number]: histories[names[number]] for number in chosen}


def _options(settings: dict[str, int | None]) -> str:
    users = "all users" if settings["users"] is None else f"--users {settings['users']}"
    return f"--seed {settings['seed']} and {users}"


def _read_description(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / "dataset.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}
