"""Choices and decisions of revisions whose rules differ though they bear one name."""

from __future__ import annotations

from catalog import plan
from catalog.plan import Choice, Decision, KeyKind
from catalog.routing import Rule
from catalog.rules import Context, Rules, compiled_rules
from catalog.targets import Target
from catalog.view import Revision

# By what they say, so that no law is tried slowly.
_RULES: dict[str, Rules] = {}


def match(revision: Revision, context: Context) -> Rule | None:
    """The revision's first rule that is true."""
    said = repr(revision.routing)
    if said not in _RULES:
        _RULES[said] = compiled_rules(revision)
    return _RULES[said].match(context)


def choose(revision: Revision, deployment: str, key: str, context: Context) -> Choice:
    """What the revision says of a call with this key and context."""
    return plan.choose(revision, deployment, key, match(revision, context))


def decide(target: Target, key_kind: KeyKind, key: str, context: Context) -> Decision:
    """What a call with this key and context is assigned."""
    return plan.decide(target, key_kind, key, match(target.revision, context))
