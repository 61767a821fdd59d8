"""How calls find their variants, as files say it: their shape, the contracts' messages, and in what two differ."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from cli import words
from cli.apply import shapes
from cli.apply.contents import plain_number
from cli.apply.differences import ABSENT, Difference, differences
from cli.apply.text import Node
from kit.json import Json
from turnout.registry.v1 import routing_pb2 as pb

_WHOLE: Final = 100
"""The weight that a share has where none is given."""
_variant: Final = shapes.text(pattern=r".{1,200}\Z", meaning="a variant's name")
_rule: Final = shapes.mapping(
    {
        "uid": shapes.text(pattern=r"rul_[0-9a-z]{26}\Z", meaning="a rule's uid, rul_…; leave it out of a new one"),
        "name": shapes.text(pattern=r"(?s).{1,200}\Z", meaning="1 to 200 characters"),
        "when": shapes.text(pattern=r"(?s).+\Z", meaning='a condition, such as context.country == "ES"', longest=4096),
        "variant": _variant,
        "split": shapes.keyed(shapes.number(0, _WHOLE), name=_variant, most=200),
        "active": shapes.truth,
    },
    required=["name", "when"],
)
_routing: Final = shapes.mapping(
    {
        "fields": shapes.keyed(
            shapes.one_of(list(words.FieldKind)),
            name=shapes.text(
                pattern=r"[a-z][a-z0-9_]{0,62}\Z", meaning="a lower-case letter, then up to 62 of a-z, 0-9 and _"
            ),
            most=64,
        ),
        "rules": shapes.listing(_rule, most=200),
        "coverage": shapes.number(0, 1),
        "baseline": _variant,
    }
)


def shape(node: Node, path: str, problems: shapes.Problems) -> Json:
    """What a file may say."""
    found = _routing(node, path, problems)
    rules = node.value.get("rules") if isinstance(node.value, dict) else None
    for index, rule in enumerate(rules.value if rules is not None and isinstance(rules.value, list) else ()):
        if not isinstance(rule.value, dict):
            continue
        below = f"{path}.rules[{index}]"
        if ("variant" in rule.value) == ("split" in rule.value):
            problems.add(rule, below, "must have either `variant` or `split`")
        elif "split" in rule.value and rule.value["split"].value == {}:
            problems.add(rule.value["split"], f"{below}.split", "must have a variant")
    return found


def routing(fields: Mapping[str, Any], former: pb.Routing, slug_of: Callable[[str], str] = str) -> pb.Routing:
    """What a file says; rules that there are already keep their uids.

    :param slug_of: of a variant that the file names
    """
    proto = pb.Routing(
        fields=[
            pb.Field(name=name, kind=words.FIELD_KINDS[words.FieldKind(kind)])
            for name, kind in fields.get("fields", {}).items()
        ],
        baseline=slug_of(fields["baseline"]) if "baseline" in fields else "",
    )
    if "coverage" in fields:
        proto.coverage = fields["coverage"]
    for rule in fields.get("rules", []):
        added = proto.rules.add(
            uid=rule.get("uid", ""),
            display_name=rule["name"],
            condition=rule["when"],
            active=rule.get("active", True),
        )
        if "variant" in rule:
            added.variant = slug_of(rule["variant"])
        else:
            shares = [pb.Share(variant=slug_of(name), weight=weight) for name, weight in rule["split"].items()]
            added.split.CopyFrom(pb.Split(shares=shares))
    _keep_uids(proto.rules, former.rules)
    return proto


def variants(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The variants that a file names, each with its path."""
    for index, rule in enumerate(fields.get("rules", [])):
        path = f"routing.rules[{index}]"
        if "variant" in rule:
            yield f"{path}.variant", rule["variant"]
        for name in rule.get("split", {}):
            yield f"{path}.split.{name}", name
    if fields.get("baseline"):
        yield "routing.baseline", fields["baseline"]


def document(proto: pb.Routing) -> dict[str, Json]:
    """The inverse of :func:`routing`, without uids: their order and names say which rule is which."""
    shown: dict[str, Json] = {}
    if proto.fields:
        shown["fields"] = {field.name: words.word(words.FIELD_KINDS, field.kind) for field in proto.fields}
    if proto.rules:
        shown["rules"] = [_rule_document(rule) for rule in proto.rules]
    if proto.HasField("coverage") and proto.coverage != 1:
        shown["coverage"] = plain_number(proto.coverage)
    if proto.baseline:
        shown["baseline"] = proto.baseline
    return shown


def changes(before: pb.Routing, after: pb.Routing) -> list[Difference]:
    """In what two differ, rules by name; nothing if they are the same."""
    old, new = document(before), document(after)
    found: list[Difference] = []
    for name in ("fields", "coverage", "baseline"):
        found += differences(old.get(name, ABSENT), new.get(name, ABSENT), f"routing.{name}")
    former = {rule.uid: rule for rule in before.rules}
    for rule in after.rules:
        was = former.pop(rule.uid, None) if rule.uid else None
        path = f"routing.rules[{was.display_name if was else rule.display_name}]"
        found += differences(ABSENT if was is None else _rule_document(was), _rule_document(rule), path)
    found += [
        Difference(f"routing.rules[{rule.display_name}]", _rule_document(rule), ABSENT) for rule in former.values()
    ]
    kept = [rule.uid for rule in before.rules if rule.uid not in former]
    now = [rule.uid for rule in after.rules]
    if now != kept + [""] * (len(now) - len(kept)):
        names = [[rule.display_name for rule in side.rules] for side in (before, after)]
        found.append(Difference("routing.rules", *names))
    return found


def path_in_file(field: str, fields: Mapping[str, Any]) -> str:
    """Where a file says what the contracts call so.

    :param field: as `deployment.routing.rules[2].condition`
    """
    path = field.removeprefix("deployment.")
    path = re.sub(r"\.condition\Z", ".when", re.sub(r"(\.rules\[\d+\])\.display_name\Z", r"\1.name", path))
    if found := re.match(r"routing\.fields\[(\d+)\]", path):
        return f"routing.fields.{_nth(fields.get('fields', {}), int(found[1]))}"
    if found := re.match(r"(routing\.rules\[(\d+)\]\.split)\.shares\[(\d+)\]", path):
        rules = fields.get("rules", [])
        split = rules[int(found[2])].get("split", {}) if int(found[2]) < len(rules) else {}
        return f"{found[1]}.{_nth(split, int(found[3]))}"
    return path


def _nth(names: Mapping[str, Any], index: int) -> str:
    return next((name for at, name in enumerate(names) if at == index), str(index))


def _keep_uids(given: Sequence[pb.Rule], former: Sequence[pb.Rule]) -> None:
    """Each is the one whose uid it has; else the first of its name; else the one that says the same, if neither's name
    is found on the other side: then it was renamed. All else is new."""
    taken = {rule.uid for rule in given if rule.uid}
    left = [rule for rule in former if rule.uid not in taken]
    names, names_before = ({rule.display_name for rule in side} for side in (given, former))
    for is_same in (
        lambda rule, was: rule.display_name == was.display_name,
        lambda rule, was: (
            rule.display_name not in names_before
            and was.display_name not in names
            and (rule.condition, _shares(rule)) == (was.condition, _shares(was))
        ),
    ):
        for rule in given:
            was = None if rule.uid else next((each for each in left if is_same(rule, each)), None)
            if was is not None:
                rule.uid = was.uid
                left.remove(was)


def _shares(rule: pb.Rule) -> dict[str, float]:
    """Weights by variant; one alone has all of it."""
    shares = {each.variant: each.weight if each.HasField("weight") else _WHOLE for each in rule.split.shares}
    return shares if len(shares) > 1 else dict.fromkeys(shares or [rule.variant], _WHOLE)


def _rule_document(proto: pb.Rule) -> dict[str, Json]:
    shown: dict[str, Json] = {"name": proto.display_name, "when": proto.condition}
    shares = {
        share.variant: plain_number(share.weight if share.HasField("weight") else _WHOLE)
        for share in proto.split.shares
    }
    if not shares:
        shown["variant"] = proto.variant
    elif list(shares.values()) == [_WHOLE]:
        # All of it to one is the same as that one.
        shown["variant"] = next(iter(shares))
    else:
        shown["split"] = dict(shares)
    if proto.HasField("active") and not proto.active:
        shown["active"] = False
    return shown
