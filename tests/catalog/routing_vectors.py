"""The vectors of docs/routing.md: what is given stands in docs/routing-vectors.json, and what comes of it is made here.

Callers elsewhere rely on them: what is there must never give anything else. To add some, write their `given` into the
file and run `python -m tests.catalog.routing_vectors`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from catalog import assignment
from catalog.conditions import Field, FieldKind
from catalog.plan import choose_key
from catalog.routing import Routing, Rule, Share
from catalog.targets import Target
from catalog.view import Completion, Deployment, DeploymentKind, Project, Revision, Variant
from kit.errors import Precondition
from tests.catalog.choices import decide

FILE: Final = Path(__file__).resolve().parents[2] / "docs" / "routing-vectors.json"
Json = dict[str, Any]


def read() -> Json:
    """The file."""
    document: Json = json.loads(FILE.read_text())
    return document


def write(document: Mapping[str, Any]) -> None:
    """The file, one vector a line."""
    parts = []
    for name, members in document.items():
        lines = ",\n".join(f"    {json.dumps(member, ensure_ascii=False)}" for member in members)
        parts.append(f'  "{name}": [\n{lines}\n  ]')
    FILE.write_text("{\n" + ",\n".join(parts) + "\n}\n")


def made(document: Json) -> Json:
    """The document with what comes of all that is given."""
    revisions = {each["name"]: each for each in document["revisions"]}
    return {
        "uniform": [_with(each, _uniform(each["given"])) for each in document["uniform"]],
        "assign": [_with(each, _assign(each["given"])) for each in document["assign"]],
        "coverage": [_with(each, _coverage(each["given"])) for each in document["coverage"]],
        "revisions": document["revisions"],
        "decisions": [
            _with(each, _decision(each["given"], revisions[each["given"]["revision"]]))
            for each in document["decisions"]
        ],
    }


def _with(vector: Json, gives: Json) -> Json:
    return {"given": vector["given"], "gives": gives}


def _uniform(given: Json) -> Json:
    return {"u": assignment.uniform(given["salt"], given["purpose"], given["id"], given["key"])}


def _assign(given: Json) -> Json:
    salt, key = given["salt"], given["key"]
    candidates = [(each["variant"], each["weight"]) for each in given["candidates"]]
    scores = {
        variant: assignment.score(weight, assignment.uniform(salt, "assign", variant, key))
        for variant, weight in candidates
        if weight > 0
    }
    return {"scores": scores, "winner": assignment.assign(salt, key, candidates)}


def _coverage(given: Json) -> Json:
    salt, deployment, key = given["salt"], given["deployment"], given["key"]
    return {
        "u": assignment.uniform(salt, "admit", deployment, key),
        "covered": assignment.is_covered(salt, deployment, key, given["coverage"]),
    }


def _decision(given: Json, revision: Json) -> Json:
    call = given["call"]
    kind, key = choose_key(**{name: call[name] for name in call if name != "context"})
    target = target_of(revision)
    try:
        decision = decide(target, kind, key, call.get("context", {}))
    except Precondition as refusal:
        # Which rule it was stands in the refusal too.
        return {"key_kind": kind.value, "rule": refusal.metadata.get("rule"), "refusal": refusal.reason}
    return {
        "key_kind": kind.value,
        "rule": decision.rule.uid if decision.rule else None,
        "variant": decision.variant.uid,
        "outside_coverage": decision.outside_coverage,
        "propensity": decision.propensity,
    }


def target_of(revision: Json) -> Target:
    """A deployment of which `live` is this revision."""
    routing = Routing(
        fields=tuple(Field(each["name"], FieldKind(each["kind"])) for each in revision["fields"]),
        rules=tuple(
            Rule(
                each["uid"],
                each["uid"],
                each["condition"],
                each["active"],
                tuple(Share(share["variant"], share["weight"]) for share in each["split"]),
            )
            for each in revision["rules"]
        ),
        coverage=revision["coverage"],
        baseline=revision["baseline"],
    )
    serving = Completion("ver_1", 0, None)
    variants = tuple(
        Variant(each["uid"], number, each["uid"], each["uid"], each["active"], each["weight"], serving)
        for number, each in enumerate(revision["variants"], 1)
    )
    live = Revision("rev_1", "1.0", revision["salt"], variants, routing)
    deployment = Deployment(
        revision["deployment"], "prj_1", revision["name"], DeploymentKind.COMPLETION, {"live": live}
    )
    return Target(Project("prj_1", 1, "shop"), deployment, "live", live)


if __name__ == "__main__":
    write(made(read()))
