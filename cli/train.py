"""`turnout train`: from a file of interactions to a trained model."""

from __future__ import annotations

import math
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from google.protobuf.json_format import MessageToDict

from cli import models, output
from cli.client import Client, failures_for_people
from cli.program import program
from cli.progress import bars
from recommenders import columns
from turnout.registry.v1 import model_pb2 as pb

if TYPE_CHECKING:
    from recommenders.evaluation import Evaluation, Metric
    from recommenders.interactions import Interactions, Titles
    from recommenders.manifest import Manifest

_ALGORITHMS: Final = ("als", "bm25", "popularity")
_TABS: Final = {"tab": "\t", "\\t": "\t"}
_DELIMITERS: Final = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "bars"}
_COLUMNS: Final = "Columns"
_PARAMETERS: Final = "Parameters"


def _finite(value: float | None) -> float | None:
    """A number to compare with: nothing is above `nan`, and nothing beyond `inf`."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter("must be a number, and neither nan nor infinite")
    return value


def _usual(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def train(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="CSV or TSV; its first line names the columns.")],
    algorithm: Annotated[str, typer.Option(help=f"One of {', '.join(_ALGORITHMS)}.")] = "als",
    user_column: Annotated[
        str | None,
        typer.Option(help=f"Whose interaction. Default: {_usual(columns.USER)}.", rich_help_panel=_COLUMNS),
    ] = None,
    item_column: Annotated[
        str | None, typer.Option(help=f"With what. Default: {_usual(columns.ITEM)}.", rich_help_panel=_COLUMNS)
    ] = None,
    value_column: Annotated[
        str | None,
        typer.Option(
            help=f"How much, above 0. Default: {_usual(columns.VALUE)}. Empty: every row is as much.",
            rich_help_panel=_COLUMNS,
        ),
    ] = None,
    time_column: Annotated[
        str | None,
        typer.Option(help=f"When. Default: {_usual(columns.TIME)}. Empty: none.", rich_help_panel=_COLUMNS),
    ] = None,
    min_value: Annotated[
        float | None,
        typer.Option(help="Leave out rows with less. Default: all count.", callback=_finite, rich_help_panel=_COLUMNS),
    ] = None,
    delimiter: Annotated[
        str | None, typer.Option(help="One character, or `tab`. Default: found out.", rich_help_panel=_COLUMNS)
    ] = None,
    titles: Annotated[
        Path | None, typer.Option(help="CSV or TSV with the items' titles.", rich_help_panel=_COLUMNS)
    ] = None,
    title_column: Annotated[
        str | None, typer.Option(help=f"Default: {_usual(columns.TITLE)}.", rich_help_panel=_COLUMNS)
    ] = None,
    title_item_column: Annotated[
        str | None,
        typer.Option(
            help=f"The item's id beside the title. Default: {_usual(columns.ITEM)}.", rich_help_panel=_COLUMNS
        ),
    ] = None,
    factors: Annotated[
        int | None, typer.Option(help="als: numbers that describe a user or item. [64]", rich_help_panel=_PARAMETERS)
    ] = None,
    iterations: Annotated[int | None, typer.Option(help="als: rounds. [15]", rich_help_panel=_PARAMETERS)] = None,
    regularization: Annotated[
        float | None, typer.Option(help="als: penalty on large factors. [0.05]", rich_help_panel=_PARAMETERS)
    ] = None,
    alpha: Annotated[
        float | None, typer.Option(help="als: confidence for each unit of value. [1]", rich_help_panel=_PARAMETERS)
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="als: start of the random numbers. [0]", rich_help_panel=_PARAMETERS)
    ] = None,
    neighbours: Annotated[
        int | None, typer.Option(help="bm25: similar items kept for each. [100]", rich_help_panel=_PARAMETERS)
    ] = None,
    k1: Annotated[
        float | None, typer.Option(help="bm25: how slowly more stops to count. [1.2]", rich_help_panel=_PARAMETERS)
    ] = None,
    b: Annotated[
        float | None, typer.Option(help="bm25: how popular items are held back. [0.75]", rich_help_panel=_PARAMETERS)
    ] = None,
    name: Annotated[str, typer.Option(help="Free text for people. Default: `Model` and its number.")] = "",
    description: Annotated[str, typer.Option(help="Free text for people.")] = "",
    out: Annotated[Path | None, typer.Option(help="Keep the artifact in this folder, which must not exist.")] = None,
    no_upload: Annotated[bool, typer.Option("--no-upload", help="Do not register the model; needs --out.")] = False,
) -> None:
    """Train a recommender from a file of interactions, measure it, and register it as a trained model.

    It is measured on what each user did last, beside recommending the most popular items; then it is fitted on all.

    Example: turnout train ratings.csv --min-value 4 --titles movies.csv
    """
    client: Client = context.obj
    if algorithm not in _ALGORITHMS:
        raise typer.BadParameter(f"must be one of {', '.join(_ALGORITHMS)}", param_hint="--algorithm")
    if no_upload and out is None:
        raise typer.BadParameter("without an upload, --out says where the model goes", param_hint="--no-upload")
    given = {
        "factors": factors,
        "iterations": iterations,
        "regularization": regularization,
        "alpha": alpha,
        "seed": seed,
        "neighbours": neighbours,
        "k1": k1,
        "b": b,
    }
    parameters = {name: value for name, value in given.items() if value is not None}
    with failures_for_people():
        with models.recommenders_libraries():
            from recommenders import artifact, interactions, training
            from recommenders.model import Algorithm
        # What can fail before the work fails before the work.
        training.settings(Algorithm(algorithm), parameters)
        if out is not None:
            artifact.check_absent(out)
        if not no_upload:
            client.channel("inference")
            _ = client.parent
        with bars() as bar, _folder(out) as folder:
            data = interactions.read_interactions(
                file,
                columns=columns.Columns(user_column, item_column, value_column, time_column),
                min_value=min_value,
                delimiter=_TABS.get(delimiter or "", delimiter),
                progress=bar("reading"),
            )
            item_titles = None
            if titles is not None:
                item_titles = interactions.read_titles(
                    titles,
                    data.item_ids,
                    item_column=title_item_column,
                    title_column=title_column,
                    progress=bar("titles"),
                )
            trained = training.train_and_evaluate(
                data,
                Algorithm(algorithm),
                parameters,
                titles=None if item_titles is None else item_titles.texts,
                evaluating=bar("evaluating"),
                fitting=bar("fitting"),
            )
            writing = bar("writing")
            manifest = artifact.write_artifact(folder, trained.model)
            writing(1.0)
            model = None
            if not no_upload:
                model = models.upload(
                    client, folder, manifest, name=name, description=description, progress=bar("uploading")
                )
    if client.as_json:
        _as_json(data, item_titles, manifest, model, out)
        return
    _report(file, data, item_titles, manifest, trained.evaluation)
    if out is not None:
        output.say(
            f"the artifact is in {out}" + ("" if model else f"; try: {program()} models upload {shlex.quote(str(out))}")
        )
    if model is not None:
        models.tell(model)


@contextmanager
def _folder(out: Path | None) -> Iterator[Path]:
    """Where the artifact is written: for good, or until it has been uploaded."""
    if out is not None:
        yield out
        return
    with tempfile.TemporaryDirectory(prefix="turnout-train-") as folder:
        yield Path(folder) / "model"


def _as_json(
    data: Interactions, titles: Titles | None, manifest: Manifest, model: pb.Model | None, out: Path | None
) -> None:
    document = {
        "algorithm": manifest.algorithm,
        "parameters": manifest.parameters,
        "metrics": manifest.metrics,
        "user_count": manifest.user_count,
        "item_count": manifest.item_count,
        "interaction_count": manifest.interaction_count,
        "read": {
            **asdict(data.taken),
            "row_count": data.row_count,
            "left_out_count": data.left_out_count,
            "repeat_count": data.repeat_count,
            "cut_title_count": 0 if titles is None else titles.cut_count,
        },
        "size_bytes": manifest.size_bytes,
        "digest": manifest.digest,
        "folder": None if out is None else str(out),
        "model": None if model is None else MessageToDict(model, preserving_proto_field_name=True),
    }
    print(output.json_text(document, indent=2))


def _report(
    file: Path, data: Interactions, titles: Titles | None, manifest: Manifest, evaluation: Evaluation | None
) -> None:
    from recommenders.checks import MAX_TITLE_LENGTH

    taken = data.taken
    roles = {"user": taken.user, "item": taken.item, "value": taken.value, "time": taken.time}
    found = ", ".join(f"{role} from {name!r}" for role, name in roles.items() if name is not None)
    absent = "".join(f", no {role}" for role, name in roles.items() if name is None)
    output.say(f"read {file}: {found}{absent}; separated by {_DELIMITERS.get(taken.delimiter, repr(taken.delimiter))}")
    left_out = f", {data.left_out_count:,} of {_counted(data.row_count, 'row')} left out" if data.left_out_count else ""
    output.say(
        f"{_counted(manifest.interaction_count, 'interaction')} of {_counted(manifest.user_count, 'user')} "
        f"with {_counted(manifest.item_count, 'item')}{left_out}"
    )
    if data.repeat_count == 1:
        output.say("1 row was a repeat of a pair and was merged")
    elif data.repeat_count:
        output.say(f"{data.repeat_count:,} rows were repeats of a pair and were merged")
    if titles is not None and titles.cut_count:
        were = "was" if titles.cut_count == 1 else "were"
        output.say(
            f"{_counted(titles.cut_count, 'title')} {were} longer than {MAX_TITLE_LENGTH:,} characters and {were} cut"
        )
    if evaluation is None:
        output.say("not evaluated: nobody has two interactions, of which one could be held out")
        return
    how = "came last" if evaluation.is_by_time else "were drawn, for there are no times"
    output.say(
        f"measured on {_counted(evaluation.user_count, 'user')} by items of theirs that {how} and were held out:"
    )
    columns = ["metric", manifest.algorithm, "95 % interval", "popularity", "difference", "its interval"]
    output.table(
        columns,
        [
            (
                row.name,
                f"{row.model.mean:.4f}",
                _interval(row.model, ""),
                f"{row.popularity.mean:.4f}",
                f"{row.difference.mean:+.4f}",
                _interval(row.difference, "+"),
            )
            for row in evaluation.rows
        ],
        numbers=columns[1:],
    )


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _interval(metric: Metric, sign: str) -> str:
    if metric.low is None or metric.high is None:
        return ""
    return f"{metric.low:{sign}.4f} … {metric.high:{sign}.4f}"
