"""What docs/routing.md publishes holds: for the code that decides, for the reference in JavaScript, and on the page."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import json_format

from catalog.conditions import Field, FieldKind, check, coerce
from catalog.conditions.coercion import to_json
from catalog.convert import routing_from_proto
from tests.catalog import routing_vectors
from tests.catalog.routing_vectors import FILE, Json
from turnout.registry.v1 import routing_pb2

PAGE = FILE.with_name("routing.md")
REFERENCE = FILE.with_name("routing-reference.mjs")
NODE = Path(sys.executable).with_name("node")
"""A wheel brings it."""
VECTORS = routing_vectors.read()

# What is given goes in, what comes of it comes out; the file's own answers are not read here.
_DRIVER = """
import { assign, chooseKey, decide, isCovered, score, uniform } from %s;
let text = "";
for await (const piece of process.stdin.setEncoding("utf8")) text += piece;
const given = JSON.parse(text);
const revisions = Object.fromEntries(given.revisions.map((each) => [each.name, each]));
const scores = ({ salt, key, candidates }) =>
  candidates.filter(({ weight }) => weight > 0).map((each) => [each.variant, score(salt, key, each)]);
const gives = {
  uniform: given.uniform.map(({ salt, purpose, id, key }) => ({ u: uniform(salt, purpose, id, key) })),
  assign: given.assign.map((each) => ({
    scores: Object.fromEntries(scores(each)), winner: assign(each.salt, each.key, each.candidates),
  })),
  coverage: given.coverage.map(({ salt, deployment, key, coverage }) => ({
    u: uniform(salt, "admit", deployment, key), covered: isCovered(salt, deployment, key, coverage),
  })),
  decisions: given.decisions.map(({ revision, call, rule }) => {
    const { kind, key } = chooseKey(call);
    const { deployment, rules, ...rest } = revisions[revision];
    const split = rule && rules.find((each) => each.uid === rule).split;
    const { variant, ...found } = decide(rest, deployment, split, key);
    if (variant === null) return { key_kind: kind, rule, refusal: "NO_ACTIVE_VARIANT" };
    return { key_kind: kind, rule, variant, ...found };
  }),
};
process.stdout.write(JSON.stringify(gives));
"""


def _node(driver: str, given: object) -> str:
    command = [str(NODE), "--input-type=module", "--eval", driver % json.dumps(REFERENCE.as_uri())]
    done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _assert_equal(found: Json, published: Json) -> None:
    """Equal but for the last digits of logarithms, which libraries may round differently, and of sums."""
    assert found.keys() == published.keys()
    for name, value in published.items():
        if name in ("scores", "propensity"):
            assert found[name] == pytest.approx(value, rel=1e-14)
        else:
            assert found[name] == value


def test_the_code_that_decides_gives_what_is_published() -> None:
    found = routing_vectors.made(VECTORS)

    for name in ("uniform", "assign", "coverage", "decisions"):
        assert len(found[name]) == len(VECTORS[name]) > 0
        for ours, published in zip(found[name], VECTORS[name], strict=True):
            _assert_equal(ours["gives"], published["gives"])


def test_the_reference_in_javascript_gives_what_is_published() -> None:
    given = {name: [vector["given"] for vector in VECTORS[name]] for name in ("uniform", "assign", "coverage")}
    # Conditions are not in its scope: it is told which rule matched.
    decisions = [vector["given"] | {"rule": vector["gives"]["rule"]} for vector in VECTORS["decisions"]]

    found = json.loads(_node(_DRIVER, {**given, "revisions": VECTORS["revisions"], "decisions": decisions}))

    for name, results in found.items():
        assert len(results) == len(VECTORS[name])
        for theirs, published in zip(results, VECTORS[name], strict=True):
            _assert_equal(theirs, published["gives"])


def test_the_reference_refuses_halves_of_surrogate_pairs_as_the_code_does() -> None:
    driver = """
    import { uniform } from %s;
    try { uniform("s", "assign", "v", "\\ud800"); } catch (error) { process.stdout.write(error.message); }
    """
    assert _node(driver, {}) == "ROUTING_KEY_NOT_TEXT"


def test_the_vectors_show_every_kind_of_decision() -> None:
    gives = [vector["gives"] for vector in VECTORS["decisions"]]

    assert {each["key_kind"] for each in gives} == {"routing_key", "identity", "thread", "user", "request"}
    assert {(each["rule"] is None, each.get("refusal"), each.get("outside_coverage")) for each in gives} == {
        (matched, *rest)
        for matched in (False, True)
        for rest in ((None, False), (None, True), ("NO_ACTIVE_VARIANT", None))
    }
    assert {vector["gives"]["covered"] for vector in VECTORS["coverage"]} == {True, False}


def test_the_page_shows_the_reference_and_the_vectors() -> None:
    page = PAGE.read_text()

    assert f"```js\n{REFERENCE.read_text()}```" in page
    for line in _tables():
        assert f"\n{line}\n" in page, "the page shows other figures than docs/routing-vectors.json"


def test_the_page_coerces_as_the_code_does() -> None:
    page = PAGE.read_text()
    kinds = [FieldKind(kind) for kind in ("string", "number", "boolean", "date", "list")]
    _, _, table = page.partition("| given | string | number | boolean | date | list |\n|---|---|---|---|---|---|\n")
    rows = [line.strip("| ").split(" | ") for line in table.partition("\n\n")[0].splitlines()]

    assert len(rows) > 10
    for given, *shown in rows:
        for kind, cell in zip(kinds, shown, strict=True):
            found = coerce(kind, json.loads(given.strip("`")))
            assert (None if found is None else to_json(found)) == (None if cell == "—" else json.loads(cell.strip("`")))


def test_the_pages_rules_can_be_written() -> None:
    page = PAGE.read_text()
    routing = routing_pb2.Routing()
    json_format.Parse(page.partition("```json\n")[2].partition("```")[0], routing)
    fields = routing_from_proto(routing).fields
    beside = (Field("since", FieldKind.DATE), Field("vip", FieldKind.BOOLEAN), Field("app", FieldKind.STRING))

    assert len(fields) == 3
    for rule in routing.rules:
        check(rule.condition, fields)
    examples = [line[3:-1] for line in page.splitlines() if line.startswith(("- `context.", "- `present."))]
    assert len(examples) == 5
    for example in examples:
        check(example, (*fields, *beside))


def _tables() -> list[str]:
    """The rows that the page has to show, in Markdown."""
    rows = []
    for vector in VECTORS["uniform"]:
        given, gives = vector["given"], vector["gives"]
        if len(given["key"]) > 20:
            continue
        texts = " | ".join(f"`{given[name]}`" for name in ("salt", "purpose", "id"))
        rows.append(f"| {texts} | {_shown(given['key'])} | {gives['u']!r} |")
    for vector in VECTORS["assign"]:
        given, gives = vector["given"], vector["gives"]
        if not given["candidates"]:
            continue
        candidates = ", ".join(f"`{each['variant']}` {each['weight']}" for each in given["candidates"])
        scores = ", ".join(f"{score:.6g}" for score in gives["scores"].values())
        winner = f"`{gives['winner']}`" if gives["winner"] else "none"
        rows.append(f"| `{given['salt']}` | {_shown(given['key'])} | {candidates} | {scores} | {winner} |")
    for vector in VECTORS["coverage"]:
        given, gives = vector["given"], vector["gives"]
        told = "yes" if gives["covered"] else "no"
        rows.append(f"| {_shown(given['key'])} | {given['coverage']} | {gives['u']!r} | {told} |")
    return rows


def _shown(key: str) -> str:
    if not key:
        return "the empty text"
    # Letters and marks that look alike are told apart by their numbers.
    odd = " ".join(f"U+{ord(sign):04X}" for sign in key) if not key.isprintable() or key in ("é", "e\u0301") else ""
    return odd or f"`{key}`"


if __name__ == "__main__":
    print("\n".join(_tables()))
