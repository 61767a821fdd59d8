"""Contracts: what callers of an alias rely on, when two are the same, and whether a call keeps to one."""

from completions.contract.comparison import compare, removed_last_user
from completions.contract.contract import Contract
from completions.contract.difference import Comparison, Difference, Kind, Verdict
from completions.contract.example import Example, example_of
from completions.contract.inputs import InputCheck, Inputs, inputs_of
from completions.contract.moving import moved
from completions.contract.requirements import requiring
from completions.contract.union import contract_of

__all__ = [
    "Comparison",
    "Contract",
    "Difference",
    "Example",
    "InputCheck",
    "Inputs",
    "Kind",
    "Verdict",
    "compare",
    "contract_of",
    "example_of",
    "inputs_of",
    "moved",
    "removed_last_user",
    "requiring",
]
