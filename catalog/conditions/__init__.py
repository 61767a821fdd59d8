"""What rules ask about a call: CEL over the fields that a deployment declares.

Nothing of CEL is loaded until a condition is checked, compiled or bound.
"""

from catalog.conditions.coercion import MAX_CONTEXT_BYTES, MAX_LIST_ELEMENTS, coerce, read_context
from catalog.conditions.condition import Condition, Outcome, Seen, State, Truth
from catalog.conditions.faults import BadCondition
from catalog.conditions.fields import MAX_FIELDS, Field, FieldKind, faults_of
from catalog.conditions.language import Bindings, Language, Languages, check
from catalog.conditions.limits import MAX_TEXT_BYTES, repetitions

__all__ = [
    "MAX_CONTEXT_BYTES",
    "MAX_FIELDS",
    "MAX_LIST_ELEMENTS",
    "MAX_TEXT_BYTES",
    "BadCondition",
    "Bindings",
    "Condition",
    "Field",
    "FieldKind",
    "Language",
    "Languages",
    "Outcome",
    "Seen",
    "State",
    "Truth",
    "check",
    "coerce",
    "faults_of",
    "read_context",
    "repetitions",
]
