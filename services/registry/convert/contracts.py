"""Contracts, and in what they differ."""

from __future__ import annotations

from typing import Final

from completions.contract import Comparison, Contract, Difference, Verdict
from kit.json import dump, parse_object
from turnout.registry.v1 import deployment_pb2
from turnout.registry.v1 import deployment_service_pb2 as pb

_COMPATIBILITIES: Final = {
    Verdict.EQUAL: pb.COMPATIBILITY_EQUAL,
    Verdict.COMPATIBLE: pb.COMPATIBILITY_COMPATIBLE,
    Verdict.DIFFERENT: pb.COMPATIBILITY_DIFFERENT,
}


def contract_from_proto(contract: deployment_pb2.Contract, field: str) -> Contract:
    """A contract as callers write it.

    :param field: its path in the request, for violations
    :raises Invalid: `JSON_…` as `kit.json` says
    """
    parts = [
        parse_object(text, field=f"{field}.{name}") if text else None
        for name, text in (
            ("variables_schema_json", contract.variables_schema_json),
            ("response_format_json", contract.response_format_json),
        )
    ]
    return Contract(*parts)


def comparison_to_proto(comparison: Comparison) -> pb.CheckCompatibilityResponse:
    """As callers see it."""
    return pb.CheckCompatibilityResponse(
        compatibility=_COMPATIBILITIES[comparison.verdict],
        differences=map(_difference_to_proto, comparison.differences),
        warnings=map(_difference_to_proto, comparison.warnings),
    )


def _difference_to_proto(difference: Difference) -> pb.ContractDifference:
    return pb.ContractDifference(
        path=difference.path,
        reason=difference.kind.name,
        before=difference.before,
        after=difference.after,
        sentence=difference.sentence,
    )


def contract_to_proto(contract: Contract) -> deployment_pb2.Contract:
    """As callers and followers see it."""
    return deployment_pb2.Contract(
        variables_schema_json="" if contract.variables is None else dump(contract.variables),
        response_format_json="" if contract.response_format is None else dump(contract.response_format),
    )
