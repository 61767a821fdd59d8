"""`turnout train`, from a file to a registered model."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from catalog import keys
from cli import models, train
from cli.app import options
from recommenders import columns
from recommenders.artifact import check_artifact, open_artifact
from recommenders.scoring import Query
from tests.cli.services import Models, serving

KEY = keys.new_key().text
COLUMNS = "user_id,item_id,rating,timestamp"


@pytest.fixture
def registry(tmp_path: Path) -> Models:
    """What models are uploaded to."""
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    return Models(uploads)


@pytest.fixture
def turnout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registry: Models) -> Iterator[Callable[..., Result]]:
    """The command with an address, a key and a project. A bug is raised, not shown."""
    monkeypatch.chdir(tmp_path)
    app = typer.Typer(pretty_exceptions_enable=False)
    app.callback()(options)
    app.command("train")(train.train)
    app.add_typer(models.app, name="models")
    with serving(registry) as address:
        surroundings = {"TURNOUT_ADDRESS": address, "TURNOUT_API_KEY": KEY, "TURNOUT_PROJECT": "shop"}

        def run(*arguments: str | Path, **environment: str) -> Result:
            result = CliRunner().invoke(app, [str(each) for each in arguments], env=surroundings | environment)
            if result.exception is not None and not isinstance(result.exception, SystemExit):
                raise result.exception
            return result

        yield run


@pytest.fixture
def ratings(tmp_path: Path) -> Path:
    """Fifty users with about ten of thirty films."""
    random = np.random.default_rng(0)
    rows = [
        f"u{user},f{film},{random.integers(1, 6)},{random.integers(1000)}"
        for user in range(50)
        for film in random.choice(30, 10, replace=False)
    ]
    path = tmp_path / "ratings.csv"
    path.write_text("\n".join([COLUMNS, *rows]))
    return path


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """Their titles."""
    path = tmp_path / "films.tsv"
    path.write_text("item_id\ttitle\n" + "".join(f"f{film}\tFilm [b]{film}[/b]\n" for film in range(30)))
    return path


def done(result: Result) -> str:
    """What was shown, if all went well."""
    assert result.exit_code == 0, result.stderr
    return result.stdout


def told(result: Result) -> str:
    """What was said about a failure."""
    assert result.exit_code == 1, result.stdout
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.stderr


@pytest.mark.parametrize("algorithm", ["als", "bm25", "popularity"])
def test_a_file_becomes_a_registered_model(
    turnout: Callable[..., Result], registry: Models, ratings: Path, films: Path, algorithm: str
) -> None:
    shown = done(turnout("train", ratings, "--algorithm", algorithm, "--titles", films, "--name", "Films"))

    [model] = registry.models
    assert (model.algorithm, model.display_name, model.user_count) == (algorithm, "Films", 50)
    assert registry.keys == [f"Bearer {KEY}"]
    assert f"{model.interaction_count:,} interactions of 50 users with 30 items" in shown
    table = {line.split()[0]: line.split() for line in shown.splitlines() if line}
    assert float(table["ndcg@10"][1]) > 0
    assert {"recall@10", "hit_rate@10", "coverage@10"} <= set(table)
    assert "model 1 is projects/shop/models/mod_1; try: " in shown
    assert shown.endswith(" models show 1\n")
    recommender = open_artifact(registry.folder / "0")
    [answer] = recommender.recommend([Query("u7", 3)])
    assert all(item.title == f"Film [b]{item.item_id[1:]}[/b]" for item in answer.items)
    assert not list(Path().glob("turnout-train-*"))


def test_what_was_trained_can_be_kept_and_uploaded_later(
    turnout: Callable[..., Result], registry: Models, ratings: Path
) -> None:
    shown = done(turnout("train", ratings, "--factors", "8", "--seed", "3", "--out", "kept/model", "--no-upload"))

    assert registry.models == []
    assert " models upload kept/model\n" in shown
    manifest = check_artifact(Path("kept/model"))
    assert (manifest.parameters["factors"], manifest.parameters["seed"]) == (8, 3)
    done(turnout("models", "upload", "kept/model", "--name", "Later"))
    assert [(model.digest, model.display_name) for model in registry.models] == [(manifest.digest, "Later")]


def test_programs_get_one_document(turnout: Callable[..., Result], registry: Models, ratings: Path) -> None:
    document = json.loads(done(turnout("--json", "train", ratings, "--algorithm", "bm25", "--neighbours", "5")))

    [model] = registry.models
    assert document["model"]["name"] == model.name
    assert document["digest"] == model.digest
    assert document["parameters"] == {"neighbours": 5, "k1": 1.2, "b": 0.75}
    assert 0 <= document["metrics"]["ndcg@10.low"] <= document["metrics"]["ndcg@10"]
    assert document["folder"] is None


def test_rows_below_the_least_value_are_told(turnout: Callable[..., Result], ratings: Path) -> None:
    shown = done(turnout("train", ratings, "--min-value", "4", "--out", "model", "--no-upload"))

    assert "of 500 rows left out" in shown


def test_what_was_taken_from_the_file_is_told(turnout: Callable[..., Result], ratings: Path, tmp_path: Path) -> None:
    (tmp_path / "few.csv").write_text("User;item;date;rating\na;x;2024-01-01;1\na;x;2024-01-02;1\na;y;2024-01-03;1\n")

    shown = done(turnout("train", "few.csv", "--value-column", ""))
    assert (
        "read few.csv: user from 'User', item from 'item', time from 'date', no value; separated by semicolons\n"
        in shown
    )
    assert "\n1 row was a repeat of a pair and was merged\n" in shown
    lines = ratings.read_text().splitlines()
    ratings.write_text("\n".join([*lines, *lines[1:156]]))
    shown = done(turnout("train", ratings, "--out", "model", "--no-upload"))
    assert "value from 'rating', time from 'timestamp'; separated by commas\n" in shown
    assert "\n155 rows were repeats of a pair and were merged\n" in shown
    assert "\n500 interactions of 50 users with 30 items\n" in shown
    read = json.loads(done(turnout("--json", "train", ratings)))["read"]
    assert (read["user"], read["delimiter"], read["row_count"], read["repeat_count"]) == ("user_id", ",", 655, 155)


def test_no_repeats_are_not_told(turnout: Callable[..., Result], ratings: Path) -> None:
    assert "repeat" not in done(turnout("train", ratings.name, "--min-value", "3"))


def test_titles_that_were_cut_are_told(turnout: Callable[..., Result], ratings: Path, tmp_path: Path) -> None:
    (tmp_path / "long.csv").write_text(f"item,title\nf1,{'x' * 1001}\n")
    assert "\n1 title was longer than 1,000 characters and was cut\n" in done(
        turnout("train", ratings, "--titles", "long.csv")
    )
    (tmp_path / "long.csv").write_text(f"item,title\nf1,{'x' * 1001}\nf2,{'x' * 1001}\nf3,x\n")
    assert "\n2 titles were longer than" in done(turnout("train", ratings, "--titles", "long.csv"))
    (tmp_path / "long.csv").write_text(f"item,title\nf1,{'x' * 1000}\n")
    assert "cut" not in done(turnout("train", ratings.name, "--titles", "long.csv"))


def test_one_is_told_as_one(turnout: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("user,item\na,x\n")

    assert "\n1 interaction of 1 user with 1 item\n" in done(turnout("train", "one.csv"))


def test_a_header_with_several_usual_names_is_refused_until_one_is_named(
    turnout: Callable[..., Result], registry: Models, tmp_path: Path
) -> None:
    (tmp_path / "both.csv").write_text("user,user_id,item\na,1,x\nb,1,y\n")

    failure = told(turnout("train", "both.csv"))
    assert "INTERACTIONS_COLUMN_AMBIGUOUS" in failure
    assert "'user' and 'user_id' could each be meant; name the right one with --user-column" in failure
    assert "user from 'user', " in done(turnout("train", "both.csv", "--user-column", "user"))
    assert [model.user_count for model in registry.models] == [2]


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_least_value_that_is_no_number_is_refused_at_its_option(turnout: Callable[..., Result], value: str) -> None:
    result = turnout("train", "nowhere.csv", "--min-value", value)

    assert result.exit_code == 2
    assert "--min-value" in result.stderr
    assert "neither nan nor infinite" in " ".join(result.stderr.replace("│", " ").split())


def test_the_help_tells_every_name_that_is_known(turnout: Callable[..., Result]) -> None:
    shown = " ".join(done(turnout("train", "--help", COLUMNS="200")).replace("│", " ").split())

    assert "Default: user_id, user or userid." in shown
    assert "Default: item_id, item or itemid." in shown
    for names in (columns.VALUE, columns.TIME, columns.TITLE):
        assert f"Default: {', '.join(names[:-1])} or {names[-1]}." in shown


def test_users_of_one_interaction_are_not_evaluated(turnout: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "few.csv").write_text("user,item\na,x\nb,y\n")

    shown = done(turnout("train", "few.csv"))

    assert "not evaluated" in shown
    assert "model 1 is" in shown


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("wer,was\na,x\n", "INTERACTIONS_COLUMN_UNKNOWN"),
        ("user,item\n", "INTERACTIONS_EMPTY"),
        ("user,item\na,x\nb\n", "INTERACTIONS_MALFORMED"),
        ("user,item\na,[red]\0\n", "INTERACTIONS_BAD_ID"),
    ],
)
def test_files_that_cannot_be_read_are_told_in_sentences(
    turnout: Callable[..., Result], registry: Models, tmp_path: Path, content: str, reason: str
) -> None:
    (tmp_path / "bad.csv").write_text(content)

    failure = told(turnout("train", "bad.csv", "--out", "model"))

    assert failure.startswith("bad.csv")
    assert reason in failure
    assert registry.models == []
    assert not (tmp_path / "model").exists()


def test_what_can_fail_before_the_work_does(turnout: Callable[..., Result], registry: Models, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()

    # There is no such file, but each of these is told first.
    assert "ARTIFACT_FOLDER_EXISTS" in told(turnout("train", "nowhere.csv", "--out", "here"))
    assert "TRAINING_PARAMETER" in told(turnout("train", "nowhere.csv", "--algorithm", "bm25", "--factors", "3"))
    assert "from 1 to 1024" in told(turnout("train", "nowhere.csv", "--factors", "9" * 400))
    assert "NO_PROJECT" in told(turnout("train", "nowhere.csv", TURNOUT_PROJECT=""))
    assert "NO_ADDRESS" in told(turnout("train", "nowhere.csv", TURNOUT_ADDRESS=""))
    assert "INTERACTIONS_UNREADABLE" in told(turnout("train", "nowhere.csv"))
    for arguments in (["--no-upload"], ["--algorithm", "deep"]):
        usage = turnout("train", "nowhere.csv", *arguments)
        assert usage.exit_code == 2
        assert arguments[0] in usage.stderr


def test_an_upload_that_is_refused_is_told_and_what_was_trained_is_kept(
    turnout: Callable[..., Result], registry: Models, ratings: Path
) -> None:
    registry.refuse = True

    failure = told(turnout("train", ratings, "--out", "model"))

    assert "all the room there is" in failure
    assert "RESOURCE_EXHAUSTED" in failure
    check_artifact(Path("model"))


def test_without_the_libraries_a_sentence_says_what_to_install(
    turnout: Callable[..., Result], ratings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "implicit.als", None)
    assert "pip install 'turnout[train]'" in told(turnout("train", ratings))

    for name in [name for name in sys.modules if name.startswith("recommenders")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "numpy", None)
    failure = told(turnout("train", ratings))
    assert "pip install 'turnout[train]'" in failure
    assert "TRAINING_LIBRARY_MISSING" in failure
