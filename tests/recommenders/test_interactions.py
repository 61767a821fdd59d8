"""Files of interactions: what is read, and what is said about those that cannot be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kit.errors import Invalid
from recommenders import tables
from recommenders.columns import Columns, Taken
from recommenders.interactions import Interactions, read_interactions, read_titles
from recommenders.texts import Texts


def written(folder: Path, content: str | bytes, name: str = "data.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refusal(folder: Path, content: str | bytes, **options: float | str | Columns) -> Invalid:
    path = written(folder, content)
    with pytest.raises(Invalid) as refused:
        read_interactions(path, **options)  # type: ignore[arg-type]  # each test gives what fits
    assert str(path) in refused.value.message
    assert refused.value.metadata["file"] == str(path)
    return refused.value


def triples(data: Interactions) -> list[tuple[str, str, float]]:
    """What was read, as the file had it."""
    return [
        (data.user_ids[user], data.item_ids[item], float(value))
        for user, item, value in zip(data.users, data.items, data.values, strict=True)
    ]


def test_a_plain_file_is_read_in_the_order_of_ids(tmp_path: Path) -> None:
    data = read_interactions(written(tmp_path, "user_id,item_id\nb,x\na,y\na,x\n"))

    assert triples(data) == [("a", "x", 1), ("a", "y", 1), ("b", "x", 1)]
    assert data.times is None
    assert (data.row_count, data.left_out_count) == (3, 0)


@pytest.mark.parametrize("delimiter", ["\t", ",", ";", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_delimiters_and_ends_of_lines_are_found_out(tmp_path: Path, delimiter: str, end: str) -> None:
    rows = [["item_id", "rating", "user_id", "timestamp"], ["x", "3.5", "a", "7"], [], ["y", "1", "a", "8"]]
    content = "\ufeff" + end.join(delimiter.join(row) for row in rows)

    data = read_interactions(written(tmp_path, content))

    assert triples(data) == [("a", "x", 3.5), ("a", "y", 1)]
    assert data.times is not None
    assert data.times.tolist() == [7, 8]


def test_recboles_headers_are_understood(tmp_path: Path) -> None:
    content = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t2\t3\t4\n"

    data = read_interactions(written(tmp_path, content))

    assert triples(data) == [("1", "2", 3)]
    assert data.taken == Taken("\t", "user_id", "item_id", "rating", "timestamp")


def test_columns_may_be_called_anything(tmp_path: Path) -> None:
    content = "wer,was,user_id,wie viel\na,x,1,2\n"

    data = read_interactions(written(tmp_path, content), columns=Columns("wer", "was", "wie viel"))
    unvalued = read_interactions(written(tmp_path, "USER,Item,rating\na,x,0\n"), columns=Columns(value=""))

    assert triples(data) == [("a", "x", 2)]
    assert triples(unvalued) == [("a", "x", 1)]


def test_pairs_that_come_twice_are_summed_and_keep_the_latest_time(tmp_path: Path) -> None:
    content = "user,item,count,time\na,x,2,5\nb,x,1,1\na,x,3,4\n"

    data = read_interactions(written(tmp_path, content))

    assert triples(data) == [("a", "x", 5), ("b", "x", 1)]
    assert data.times is not None
    assert data.times.tolist() == [5, 1]
    assert data.row_count == 3


def test_rows_below_the_least_value_are_left_out_with_their_users(tmp_path: Path) -> None:
    content = "user,item,rating\na,x,5\nb,x,3.9\na,y,4\nb,z,-1\n,,0\n"

    data = read_interactions(written(tmp_path, content), min_value=4)

    assert triples(data) == [("a", "x", 5), ("a", "y", 4)]
    assert (data.row_count, data.left_out_count) == (5, 3)
    assert list(data.user_ids) == ["a"]


def test_times_may_be_dates(tmp_path: Path) -> None:
    content = "user,item,time\na,x,2024-01-31T12:00:00Z\na,y,2024-01-31\na,z,2024-01-31 13:00+01:00\n"

    data = read_interactions(written(tmp_path, content))

    assert data.times is not None
    assert (data.times - data.times[1]).tolist() == [43200, 0, 43200]


def test_any_unicode_is_an_id_and_quotes_may_hold_anything(tmp_path: Path) -> None:
    content = 'user,item\n"日,本\n""x""",🎬\nÜ,"é"\n\u00a0,e\u0301\n'

    data = read_interactions(written(tmp_path, content))

    assert set(triples(data)) == {('日,本\n"x"', "🎬", 1), ("Ü", "é", 1), ("\u00a0", "e\u0301", 1)}
    assert list(data.user_ids) == sorted(data.user_ids, key=str.encode)


def test_between_tabs_a_quote_is_a_character(tmp_path: Path) -> None:
    data = read_interactions(written(tmp_path, 'user\titem\n"a\t"x"\n'))

    assert triples(data) == [('"a', '"x"', 1)]


def test_many_batches_are_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "ROWS_AT_A_TIME", 7)
    random = np.random.default_rng(0)
    pairs = random.integers(0, 30, (500, 2))
    content = "user,item,time\n" + "".join(f"u{u},i{i},{n}\n" for n, (u, i) in enumerate(pairs))
    told: list[float] = []

    data = read_interactions(written(tmp_path, content), progress=told.append)

    expected: dict[tuple[str, str], int] = {}
    for user, item in pairs:
        expected[f"u{user}", f"i{item}"] = expected.get((f"u{user}", f"i{item}"), 0) + 1
    assert {(user, item): value for user, item, value in triples(data)} == expected
    assert told == sorted(told)
    assert told[-1] == 1


def test_blank_lines_are_nothing_however_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "ROWS_AT_A_TIME", 3)
    blank = "\n" * 10

    data = read_interactions(written(tmp_path, f"user,item,time\n{blank}a,x,1\n{blank}a,y,2\n{blank}"))

    assert triples(data) == [("a", "x", 1), ("a", "y", 1)]
    assert refusal(tmp_path, f"user,item,time\n{blank}a,x,1\n{blank}a,y,?\n").metadata["line"] == "23"


def test_an_unknown_column_is_told_with_those_that_there_are(tmp_path: Path) -> None:
    error = refusal(tmp_path, "wer,was\na,x\n")
    assert error.reason == "INTERACTIONS_COLUMN_UNKNOWN"
    assert "'user_id'" in error.message
    assert "wer, was" in error.message
    assert "--user-column" in error.message
    given = refusal(tmp_path, "user,item\na,x\n", columns=Columns(time="when"))
    assert "'when'" in given.message
    assert "--time-column" in given.message
    twice = refusal(tmp_path, "user,item,user\na,x,b\n")
    assert twice.reason == "INTERACTIONS_COLUMN_AMBIGUOUS"
    assert refusal(tmp_path, "user,item\na,x\n", min_value=3).reason == "INTERACTIONS_COLUMN_UNKNOWN"


@pytest.mark.parametrize(
    ("header", "named", "option"),
    [
        ("user,user_id,item", "'user' and 'user_id'", "--user-column"),
        ("User,user,userid,item", "'User', 'user' and 'userid'", "--user-column"),
        ("user,item_id,item", "'item_id' and 'item'", "--item-column"),
        ("user,item,rating,count", "'rating' and 'count'", "--value-column"),
        ("user,item,date,timestamp:float", "'date' and 'timestamp'", "--time-column"),
    ],
)
def test_several_usual_names_are_refused_with_the_option_that_says_which(
    tmp_path: Path, header: str, named: str, option: str
) -> None:
    error = refusal(tmp_path, f"{header}\n1,2,3,4\n")

    assert error.reason == "INTERACTIONS_COLUMN_AMBIGUOUS"
    assert f"{named} could each be meant; name the right one with {option}" in error.message


def test_a_named_column_is_taken_beside_another_usual_name(tmp_path: Path) -> None:
    path = written(tmp_path, "user,user_id,item,rating,count,time,date\na,b,x,5,1,8,9\n")

    data = read_interactions(path, columns=Columns("user", value="rating", time=""))

    assert triples(data) == [("a", "x", 5)]
    assert data.taken == Taken(",", "user", "item", "rating", None)


@pytest.mark.parametrize("content", ["", "\n", "\ufeff", "user,item\n", "user,item\n\n\n"])
def test_nothing_is_not_enough(tmp_path: Path, content: str) -> None:
    assert refusal(tmp_path, content).reason == "INTERACTIONS_EMPTY"


def test_nothing_that_is_left_is_told_with_its_cause(tmp_path: Path) -> None:
    error = refusal(tmp_path, "user,item,rating\na,x,3\n", min_value=4)

    assert error.reason == "INTERACTIONS_EMPTY"
    assert "none of its 1 rows has a value of 4" in error.message


@pytest.mark.parametrize(
    ("content", "reason", "line"),
    [
        ("user,item\na,x\n\nb\n", "MALFORMED", 4),
        ("user,item\na,x\nb,y,z\n", "MALFORMED", 3),
        ('user,item\na,x\n"b,y\n', "MALFORMED", 3),
        ("user,item\na,x\n" + "b" * (2 << 20), "MALFORMED", 3),
        ("user,item\na," + "x" * 200_000, "MALFORMED", 2),
        ('user,item\n"a\n\n",x\n,y\n', "BAD_ID", 5),
        ("user,item\na,x\na,\n", "BAD_ID", 3),
        ("user,item\na,x\na,y\0\n", "BAD_ID", 3),
        ("user,item\n" + "é" * 257 + ",x\n", "BAD_ID", 2),
        ("user,item,value\na,x,1\na,y,much\n", "BAD_VALUE", 3),
        ("user,item,value\na,x,1\na,y,\n", "BAD_VALUE", 3),
        ("user,item,value\na,x,nan\n", "BAD_VALUE", 2),
        ("user,item,value\na,x,1\na,x,inf\n", "BAD_VALUE", 3),
        ("user,item,value\na,x,1e300\n", "BAD_VALUE", 2),
        ("user,item,value\na,x,0\n", "BAD_VALUE", 2),
        ("user,item,value\na,x,1\nb,x,-3\n", "BAD_VALUE", 3),
        ("user,item,time\na,x,1\nb,x,later\n", "BAD_TIME", 3),
        ("user,item,time\na,x,later\n", "BAD_TIME", 2),
        ("user,item,time\na,x,2024-01-01\nb,x,17\n", "BAD_TIME", 3),
        ("user,item,time\na,x,nan\n", "BAD_TIME", 2),
        (b"user,item\na,x\nb,\xff\n", "ENCODING", 3),
        ("user,item\na,x\n".encode("utf-16"), "ENCODING", 1),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_cannot_be_read_is_told_with_its_line(
    tmp_path: Path, content: str | bytes, reason: str, line: int
) -> None:
    error = refusal(tmp_path, content)

    assert error.reason == f"INTERACTIONS_{reason}"
    assert error.metadata["line"] == str(line)
    assert f"line {line}:" in error.message


def test_files_that_are_none_are_told(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.csv", tmp_path):
        with pytest.raises(Invalid) as refused:
            read_interactions(path)
        assert refused.value.reason == "INTERACTIONS_UNREADABLE"
    assert refusal(tmp_path, "user,item\na,x\n", delimiter="").reason == "INTERACTIONS_DELIMITER"
    assert refusal(tmp_path, "user,item\na,x\n", delimiter=",,").reason == "INTERACTIONS_DELIMITER"


def test_titles_are_those_of_the_items_that_there_are(tmp_path: Path) -> None:
    path = written(tmp_path, "item_id,movie_title,year\ny,Y,1\nx,First,1\nz,Z,1\nx, Last ,2\nw," + "W" * 1001 + ",1\n")

    titles = read_titles(path, Texts.of(["v", "w", "x", "y"]))

    assert list(titles.texts) == ["", "W" * 1000, "Last", "Y"]
    assert titles.cut_count == 1


def test_a_long_title_that_a_shorter_one_replaces_is_not_counted_as_cut(tmp_path: Path) -> None:
    path = written(tmp_path, "item,name\nx," + "X" * 1001 + "\nx,X\ny,Y\ny," + "Y" * 1001 + "\n")

    titles = read_titles(path, Texts.of(["x", "y"]))

    assert list(titles.texts) == ["X", "Y" * 1000]
    assert titles.cut_count == 1


def test_titles_that_cannot_be_read_are_told_as_such(tmp_path: Path) -> None:
    path = written(tmp_path, "item_id,year\nx,1\n")

    with pytest.raises(Invalid) as refused:
        read_titles(path, Texts.of(["x"]))

    assert refused.value.reason == "TITLES_COLUMN_UNKNOWN"
    assert "--title-column" in refused.value.message


def test_movielens_has_what_it_is_known_to_have(movielens: Interactions, movielens_folder: Path) -> None:
    titles = read_titles(movielens_folder / "ml-100k.item", movielens.item_ids)

    assert (len(movielens), len(movielens.user_ids), len(movielens.item_ids)) == (100_000, 943, 1682)
    assert float(movielens.values.sum()) == 352_986
    assert dict(zip(movielens.item_ids, titles.texts, strict=True))["1"] == "Toy Story"
