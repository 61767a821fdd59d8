"""Choices of revisions whose rules differ though they bear one name."""

from __future__ import annotations

from dataclasses import replace

from catalog import plan
from catalog.plan import Choice
from catalog.rules import Compiler, Context
from catalog.view import Revision

_COMPILER = Compiler()


def choose(revision: Revision, deployment: str, key: str, context: Context) -> Choice:
    """What the revision says of a call with this key and context."""
    # Kept by what they say, so that no law is tried slowly.
    rules = _COMPILER.now("", replace(revision, uid=repr(revision.routing)))
    return plan.choose(revision, deployment, key, rules.match(context))
