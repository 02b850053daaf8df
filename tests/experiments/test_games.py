"""Purchase histories with derived queries: what is asked, what is bought, and where time parts them."""

import gzip
import html
import json
import sys
from collections import Counter, defaultdict
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from experiments.games.__main__ import run as command
from experiments.games.dataset import DAY_0, convert, fetch_games, shares
from experiments.games.derived_queries import Matcher, candidate_words, derive, frequencies, is_weak, words_of
from experiments.games.raw_files import FILES, TEST_FILE, TITLES_FILE, VALID_FILE, read_histories, read_titles
from genrecall.config import Config
from genrecall.config.data import DataSection
from genrecall.config.logs import LogsSection
from genrecall.data.events import logged_events, logged_queries
from genrecall.data.readers import read_dataset
from genrecall.data.rejects import Rejects
from genrecall.data.sources import resolve_sources
from genrecall.data.summary import summarize
from genrecall.errors import UserError

TITLES = [
    "Fire Emblem: The Sacred Stones",
    "Dungeons &amp; Dragons  Tactics - Sony PSP",
    "Final Fantasy XIII - PlayStation 3",
    "Final Fantasy X-2 HD Remaster - PS4 [Digital Code]",
    "Logitech TM-YB100A8211 Wireless Controller for PS3, Black",
    "Wii",
    "Madden NFL 07 - Xbox 360",
    "Pok&eacute;mon Moon - Nintendo 3DS",
]
PLAIN = [words_of(html.unescape(title)) for title in TITLES]
HISTORIES = {"7": list("01234"), "8": list("5670"), "9": list("246713")}


def write_raw(folder: Path, titles: list[str] = TITLES, histories: dict[str, list[str]] = HISTORIES) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rows = "".join(f"{number}\t{title}\n" for number, title in enumerate(titles))
    (folder / TITLES_FILE.name).write_text("item_id:token\ttitle:token_seq\n" + rows)
    for file, cut in ((VALID_FILE, -2), (TEST_FILE, -1)):
        rows = "".join(f"{user}\t{' '.join(items[:cut])}\t{items[cut]}\n" for user, items in histories.items())
        (folder / file.name).write_text("user_id:token\titem_id_list:token_seq\titem_id:token\n" + rows)
    return folder


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return write_raw(tmp_path / "raw")


@pytest.fixture
def made(raw: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "made"
    folder.mkdir()
    convert(raw, folder)
    return folder


def lines(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def about(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "dataset.json").read_text())["about"]


def test_folder_opens_and_says_what_is_real(made: Path) -> None:
    data = read_dataset(DataSection(folder=made, max_reject_share=0))
    assert data.simulated
    assert data.items["title"].to_pylist()[1] == "Dungeons & Dragons Tactics - Sony PSP"
    assert data.items["title"].to_pylist()[7] == "Pokémon Moon - Nintendo 3DS"
    section, rejects = resolve_sources(DataSection(folder=made))[0], Rejects()
    asked = [row for batch in logged_queries(section, rejects) for row in batch.to_pylist()]
    bought = [row for batch in logged_events(section, rejects) for row in batch.to_pylist()]
    assert not rejects.count()
    assert [row["hits"] for row in asked] == [[]] * 15
    assert [(row["client_id"], row["item_id"]) for row in bought] == [
        (f"u{user}", item) for user, items in HISTORIES.items() for item in items
    ]
    assert {row["action"] for row in bought} == {"purchase"}
    assert "queries are derived from titles; purchases are real" in about(made)["note"]


def test_dataset_without_judgments_has_a_summary(made: Path) -> None:
    section, rejects = DataSection(folder=made), Rejects()
    facts = summarize(read_dataset(section, rejects), Config(data=section), rejects)
    assert (facts["items"], facts["judgments"], facts["splits"]) == (len(TITLES), 0, {})


def test_a_user_buys_in_order_and_the_targets_are_on_the_last_two_days(made: Path) -> None:
    bought = {event["query_id"]: event for event in lines(made / "ubi_events.jsonl.gz")}
    days = defaultdict(list)
    for query in lines(made / "ubi_queries.jsonl.gz"):
        asked, done = (datetime.fromisoformat(row["timestamp"]) for row in (query, bought[query["query_id"]]))
        assert asked < done
        assert (asked - DAY_0).days == (done - DAY_0).days
        days[query["client_id"]].append((asked - DAY_0).days)
    for user, items in HISTORIES.items():
        found = days[f"u{user}"]
        assert len(set(found)) == len(items)
        assert found == sorted(found)
        assert found[-3] < 1000
        assert found[-2:] == [1000, 1001]


def test_shares_part_the_requests_where_the_two_days_begin(made: Path) -> None:
    logs = LogsSection(**about(made)["split"])
    assert logs.split == "time"
    day = sorted(
        (datetime.fromisoformat(row["timestamp"]) - DAY_0).days for row in lines(made / "ubi_queries.jsonl.gz")
    )
    tests, devs = round(len(day) * logs.test_share), round(len(day) * logs.dev_share)
    first_test, first_dev = len(day) - tests, len(day) - tests - devs
    assert day[first_test:] == [1001] * 3
    assert day[first_dev:first_test] == [1000] * 3
    assert about(made)["requests"] == {"train": 9, "dev": 3, "test": 3}


@pytest.mark.parametrize("count", [(339_126, 50_544, 50_535), (9, 3, 3), (1, 1, 1), (10_000_000, 1, 1), (7, 3, 2)])
def test_shares_are_exact_for_any_counts(count: tuple[int, int, int]) -> None:
    dev, test = shares(*count)
    assert (round(sum(count) * dev), round(sum(count) * test)) == count[1:]


def test_histories_too_short_to_part_are_refused() -> None:
    with pytest.raises(UserError, match="histories are too short"):
        shares(0, 5, 5)
    with pytest.raises(UserError, match=r"no logs\.dev_share"):
        shares(5, 0, 0)


def test_no_query_says_a_model_number_a_letter_or_a_roman_number() -> None:
    frequency = frequencies(PLAIN)
    for number in range(300):
        for title in PLAIN:
            for word in derive(candidate_words(title), frequency, f"seed {number}").split():
                assert len(word) > 1
                assert not any(character.isdigit() for character in word)
                assert word not in {"xiii", "the", "for", "code", "digital"}
                assert word in title


def test_a_query_is_a_platform_or_a_colour_alone_only_where_the_title_is() -> None:
    frequency = frequencies(PLAIN)
    weak = [
        title for title in PLAIN if any(is_weak(derive(candidate_words(title), frequency, str(n))) for n in range(200))
    ]
    assert weak == [["wii"]]


def test_words_that_many_titles_share_are_asked_most_and_alone_half_the_time() -> None:
    titles = [words_of(title) for title in ["Sims Castaway", "Sims Pets", "Sims Seasons", "Sims Nightlife"]]
    frequency = frequencies(titles)
    asked = Counter(derive(candidate_words(titles[0]), frequency, str(number)) for number in range(4000))
    assert set(asked) == {"sims", "castaway", "sims castaway"}
    assert asked["sims castaway"] / 4000 == pytest.approx(0.5, abs=0.03)
    assert asked["sims"] / (asked["sims"] + asked["castaway"]) == pytest.approx(4 / 5, abs=0.03)


def test_matches_are_titles_with_all_words_of_a_query() -> None:
    matcher = Matcher(PLAIN)
    assert matcher.count("final fantasy") == 2
    assert matcher.count("fantasy remaster") == 1
    assert matcher.count("final emblem") == 0
    assert matcher.count("") == 0


def test_dataset_says_how_many_items_match_each_query(made: Path) -> None:
    matcher = Matcher([words_of(item["title"]) for item in lines(made / "items.jsonl.gz")])
    found = sorted(matcher.count(row["user_query"]) for row in lines(made / "ubi_queries.jsonl.gz"))
    said = about(made)["items_with_all_words_of_a_request"]["all"]
    assert (said["median"], said["most"]) == (found[7], found[-1])
    assert said["share_with_1"] == round(found.count(1) / 15, 4)
    assert sum(about(made)["requests_by_words"].values()) == 15


def test_same_seed_gives_the_same_bytes_and_another_seed_others(raw: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / name).mkdir()
        convert(raw, tmp_path / name, seed=seed)
    for name in ("items.jsonl.gz", "ubi_queries.jsonl.gz", "ubi_events.jsonl.gz", "dataset.json"):
        first, again, other = ((tmp_path / part / name).read_bytes() for part in "abc")
        assert first == again
        assert (first == other) == (name == "items.jsonl.gz")


def test_fewer_users_keep_the_catalogue_and_their_own_histories(raw: Path, made: Path, tmp_path: Path) -> None:
    (tmp_path / "few").mkdir()
    convert(raw, tmp_path / "few", users=2)
    rows, everything = (lines(folder / "ubi_queries.jsonl.gz") for folder in (tmp_path / "few", made))
    assert len({row["client_id"] for row in rows}) == about(tmp_path / "few")["users"] == 2
    assert all(row in everything for row in rows)
    assert len(lines(tmp_path / "few" / "items.jsonl.gz")) == len(TITLES)
    with pytest.raises(UserError, match=r"--users 4: there are 3"):
        convert(raw, tmp_path / "few", users=4)


def test_items_without_a_title_or_words_and_repeated_ids_are_left_out_and_counted(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", [*TITLES[:5], " &nbsp; ", "2048 [Download]", TITLES[7]])
    with (raw / TITLES_FILE.name).open("a") as file:
        file.write("0\tThe same id\n")
    assert (read_titles(raw / TITLES_FILE.name).empty, read_titles(raw / TITLES_FILE.name).duplicate) == (1, 1)
    (tmp_path / "made").mkdir()
    said = convert(raw, tmp_path / "made")["about"]
    assert said["items"] == 7
    assert said["rows_left_out"] == {"empty title": 1, "duplicate id": 1}
    assert said["purchases_left_out"] == {"item without a title": 1, "no word to ask for": 2}
    assert sum(said["requests"].values()) == 15 - 3


def test_damaged_files_are_named_with_the_line(raw: Path) -> None:
    test, whole = raw / TEST_FILE.name, (raw / TEST_FILE.name).read_text()
    test.write_text(whole[:-3])
    with pytest.raises(UserError, match=r"test\.inter line 4 has no end.*fetch it again"):
        read_histories(raw / VALID_FILE.name, test)
    test.write_text(whole.replace("\t0\n", " 0\n"))
    with pytest.raises(UserError, match=r"line 3: 2 columns, expected 3 \(user_id, item_id_list, item_id\)"):
        read_histories(raw / VALID_FILE.name, test)
    test.write_text(whole.replace("0 1 2 3\t4", "0 1 3 2\t4"))
    with pytest.raises(UserError, match="history of user '7' is not that of"):
        read_histories(raw / VALID_FILE.name, test)
    test.write_text("".join(whole.splitlines(keepends=True)[:-1]))
    with pytest.raises(UserError, match=r"1 users of Games-6k\.valid\.inter are missing"):
        read_histories(raw / VALID_FILE.name, test)
    with pytest.raises(UserError, match="line 1: columns user_id"):
        read_titles(test)
    test.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        read_histories(raw / VALID_FILE.name, test)


def test_files_of_another_version_are_refused_and_leave_nothing(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Games\.item is not the file expected: sha256"):
        fetch_games(tmp_path / "data" / "games", [raw])
    assert list((tmp_path / "data").iterdir()) == []


def test_a_folder_made_with_other_settings_is_not_taken_for_this_one(made: Path) -> None:
    assert fetch_games(made, [])[0] == "already there"
    with pytest.raises(UserError, match="--seed 13 and all users, not with --seed 2 and --users 5"):
        fetch_games(made, [], users=5, seed=2)


def test_addresses_are_of_one_commit() -> None:
    assert all(file.url.endswith(file.name) and "/main/" not in file.url for file in FILES)


def test_command(
    raw: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["experiments.games", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            command()
        return int(stopped.value.code or 0)

    assert run("--to", made) == 0
    said = capsys.readouterr().out
    assert "3 users, 15 purchases of 8 items" in said
    assert "logs.dev_share=0.2 logs.test_share=0.2" in said
    assert "purchases are real" in said
    assert run("--to", made, "--json") == 0
    assert json.loads(capsys.readouterr().out)["about"]["users"] == 3
    assert run("--from", raw, "--to", tmp_path / "to") == 2
    assert "is not the file expected" in capsys.readouterr().err
    assert run("--from", tmp_path, "--to", tmp_path / "to") == 2
    assert "must hold Games.item" in capsys.readouterr().err
