"""In what two revisions differ, field by field and in words. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import timedelta
from enum import Enum, StrEnum
from itertools import chain
from typing import Final, TypeGuard

from catalog.routing import Rule
from kit.json import Json, dump
from kit.values import Value
from services.registry.domain.deployments import Completion, Revision, Variant
from services.registry.domain.execution import Execution
from services.registry.domain.models import Model
from services.registry.domain.providers import Version
from services.registry.domain.routing import only_variant

_MAX_SHOWN: Final = 80
MAX_DIFFERENCES: Final = 200
MAX_BYTES: Final = 1 << 20
"""Of all that are told: they come in one message."""
_ABSENT: Final = object()


class _Whole(dict[str, object]):
    """What is told as one where it is new or gone: all that it consists of would bury that it is."""


class DifferenceKind(StrEnum):
    """What became of a field."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Difference:
    """One field that differs."""

    path: str
    kind: DifferenceKind
    before_json: str
    after_json: str
    sentence: str


def differences(
    before: Revision, before_uses: Sequence[Version | Model], after: Revision, after_uses: Sequence[Version | Model]
) -> tuple[Difference, ...]:
    """What is different in `after`. Variants are matched by uid, and named by slug; rules by uid, and named by display
    name. Large ones take some 100 ms.

    At most 200, and 1 MiB: of one that would be too long there is the sentence alone, and a last one without a path
    says how many more there are.

    :param before_uses: the versions and models that the variants of `before` use
    """
    names = _rule_names(before, after)
    left, right = _document(before, before_uses, names), _document(after, after_uses, names)
    return _told(chain(_differing("", left, right), _reordered(before, after, names)))


def _told(found: Iterator[Difference]) -> tuple[Difference, ...]:
    told: list[Difference] = []
    left, more = MAX_BYTES, 0
    for each in found:
        least = len(each.path.encode()) + len(each.sentence.encode())
        if len(told) == MAX_DIFFERENCES or least > left:
            more += 1
            continue
        whole = least + len(each.before_json.encode()) + len(each.after_json.encode())
        told.append(each if whole <= left else replace(each, before_json="", after_json=""))
        left -= whole if whole <= left else least
    if more:
        sentence = f"{more:,} more fields differ" if more > 1 else "1 more field differs"
        told.append(Difference("", DifferenceKind.CHANGED, "", "", sentence))
    return tuple(told)


def _document(revision: Revision, uses: Sequence[Version | Model], rule_names: Mapping[str, str]) -> dict[str, object]:
    known = {thing.uid: thing for thing in uses}
    variants = {f"variants[{variant.slug}]": _variant(variant, known) for variant in revision.variants}
    return {"salt": revision.salt, "routing": _routing(revision, rule_names), **variants}


def _routing(revision: Revision, rule_names: Mapping[str, str]) -> dict[str, object]:
    routing = revision.routing
    slugs = {variant.uid: variant.slug for variant in revision.variants}
    return {
        **{f"fields[{field.name}]": _Whole(kind=field.kind.value) for field in routing.fields},
        **{f"rules[{rule_names[rule.uid]}]": _rule(rule, slugs) for rule in routing.rules},
        "coverage": _plain(routing.coverage),
        **_present("baseline", slugs.get(routing.baseline, "")),
    }


def _rule(rule: Rule, slugs: Mapping[str, str]) -> _Whole:
    shown = _Whole(display_name=rule.display_name, condition=rule.condition, active=rule.active)
    if (variant := only_variant(rule)) is not None:
        shown["variant"] = slugs[variant]
    else:
        shares = {f"shares[{slugs[share.variant]}]": _Whole(weight=_plain(share.weight)) for share in rule.shares}
        shown["split"] = shares
    return shown


def _rule_names(before: Revision, after: Revision) -> dict[str, str]:
    """By uid: its name in `after`, else in `before`; with the uid where several have it."""
    names = {rule.uid: rule.display_name for revision in (before, after) for rule in revision.routing.rules}
    count, uids = Counter(names.values()), tuple(names)
    # No name may look like another's, or one difference would hide another.
    return {
        uid: name if count[name] == 1 and not name.endswith(uids) else f"{name} {uid}" for uid, name in names.items()
    }


def _reordered(before: Revision, after: Revision, names: Mapping[str, str]) -> Iterator[Difference]:
    """Whether rules are asked in another order than that which there was, with new ones last."""
    left, right = ([rule.uid for rule in each.routing.rules] for each in (before, after))
    kept = [uid for uid in left if uid in set(right)]
    if right != [*kept, *(uid for uid in right if uid not in set(left))]:
        yield _changed("routing.rules", [names[uid] for uid in left], [names[uid] for uid in right])


def _variant(variant: Variant, known: dict[str, Version | Model]) -> _Whole:
    shown = _Whole(
        display_name=variant.display_name,
        notes=variant.notes,
        active=variant.active,
        weight=_plain(variant.weight),
    )
    serving = variant.serving
    if isinstance(serving, Completion):
        version = known.get(serving.version)
        content = _plain(version.content) if isinstance(version, Version) else {"version": serving.version}
        shown["completion"] = {
            **(content if isinstance(content, dict) else {}),
            **({} if serving.prompt is None else {"prompt": serving.prompt.label}),
            "max_retries": serving.max_retries,
            **_present("attempt_timeout", serving.attempt_timeout),
            **_execution(serving.execution),
        }
    else:
        shown["recommendation"] = {"model": serving.model, "unknown_users": serving.unknown_users.value}
    return shown


def _plain(value: object) -> object:
    """As JSON, without what has no value: absent and empty are the same here, but for an empty object where nothing at
    all could be; and so are `1` and `1.0`."""
    if isinstance(value, Value):
        # What a version says; nothing of it is optional.
        return _object(value, dict.fromkeys(value.__struct_fields__, False))
    if is_dataclass(value) and not isinstance(value, type):
        return _object(value, {each.name: each.default is None for each in fields(value)})
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _object(value: object, names: Mapping[str, bool]) -> dict[str, object]:
    """:param names: of its fields, and whether each is optional"""
    members = [_present(name, getattr(value, name), is_optional=optional) for name, optional in names.items()]
    return {name: each for named in members for name, each in named.items()}


def _present(name: str, value: object, *, is_optional: bool = False) -> dict[str, object]:
    """A member of an object; none without a value. Times are in seconds, and their names say so.

    :param is_optional: whether an empty object is a value: a fallback with empty parameters does not take its version's
    """
    if isinstance(value, timedelta):
        return {f"{name}_seconds": _plain(value.total_seconds())}
    plain = _plain(value)
    absent: tuple[object, ...] = (None, "", []) if is_optional else (None, "", [], {})
    return {} if plain in absent else {name: plain}


def _execution(execution: Execution) -> dict[str, object]:
    # Which provider it is says its slug, which is for ever.
    fallbacks = tuple(replace(each, provider_uid="") for each in execution.fallbacks)
    plain = _plain(replace(execution, fallbacks=fallbacks))
    return plain if isinstance(plain, dict) else {}


def _differing(path: str, before: object, after: object) -> Iterator[Difference]:
    if _ABSENT in (before, after) and not isinstance(before, _Whole) and not isinstance(after, _Whole):
        # An empty object has no fields that would tell of it.
        before, after = (
            {} if side is _ABSENT and isinstance(other, dict) and other else side
            for side, other in ((before, after), (after, before))
        )
    if isinstance(before, dict) and isinstance(after, dict):
        for name in dict.fromkeys((*before, *after)):
            where = f"{path}.{name}" if path else str(name)
            yield from _differing(where, before.get(name, _ABSENT), after.get(name, _ABSENT))
    elif path.endswith(".required") and _is_names(before) and _is_names(after):
        # What a schema requires is a set.
        if frozenset(before) != frozenset(after):
            yield _changed(path, sorted(before), sorted(after))
    elif isinstance(before, list) and isinstance(after, list):
        for index in range(max(len(before), len(after))):
            left, right = (side[index] if index < len(side) else _ABSENT for side in (before, after))
            yield from _differing(f"{path}[{index}]", left, right)
    elif before is _ABSENT:
        text = _json(after)
        yield Difference(path, DifferenceKind.ADDED, "", text, f"{path} is added: {_shown(text)}")
    elif after is _ABSENT:
        text = _json(before)
        yield Difference(path, DifferenceKind.REMOVED, text, "", f"{path} is removed; it was {_shown(text)}")
    elif before != after or type(before) is not type(after):
        yield _changed(path, before, after)


def _changed(path: str, before: object, after: object) -> Difference:
    texts = _json(before), _json(after)
    sentence = f"{path} changes from {_shown(texts[0])} to {_shown(texts[1])}"
    return Difference(path, DifferenceKind.CHANGED, *texts, sentence)


def _is_names(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _json(value: object) -> str:
    document: Json = value  # type: ignore[assignment]  # what `_plain` makes is JSON
    return dump(document)


def _shown(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"
