"""The routing of one deployment: in what a file and the server differ, and the write over it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from cli.apply import rules
from cli.apply.differences import Difference
from cli.apply.documents import Document
from cli.apply.plan import Failures, Options, Outcome, Server, Step, missing
from cli.apply.variants import VariantPlan, VariantPlanner
from kit import status
from kit.errors import Violation
from turnout.registry.v1 import deployment_pb2 as pb
from turnout.registry.v1 import deployment_service_pb2 as service_pb
from turnout.registry.v1 import routing_pb2

_KEY: Final = ("routing", "")


@dataclass(frozen=True, slots=True)
class RoutingPlanner:
    """Plans the routing of one deployment; its variants are planned, and written, before it."""

    server: Server
    options: Options
    document: Document
    variants: VariantPlanner

    @property
    def _declared(self) -> Mapping[str, Any] | None:
        return self.document.fields.get("routing")  # type: ignore[return-value]  # by its shape

    def new(self) -> list[Difference]:
        """As people see that of a new deployment.

        :raises NotFound: `USED_NOT_FOUND`, if it names a variant that the file does not have
        """
        declared = self._declared or {}
        self._check_names(self.document.fields.get("variants", {}))  # type: ignore[arg-type]  # by its shape
        return rules.changes(routing_pb2.Routing(), rules.routing(declared, routing_pb2.Routing()))

    def of_new(self, made: Sequence[pb.Variant]) -> routing_pb2.Routing | None:
        """As a new deployment gets it; None if the file has none.

        :param made: the variants as the registry would make them, in the order of the file
        """
        if not self._declared:
            return None
        keys: Mapping[str, Any] = self.document.fields.get("variants", {})  # type: ignore[assignment]  # by its shape
        slugs = {key: each.slug for key, each in zip(keys, made, strict=True)}
        return rules.routing(self._declared, routing_pb2.Routing(), slugs.__getitem__)

    def plan(self, has: Sequence[pb.Variant], former: routing_pb2.Routing) -> VariantPlan | None:
        """What is to be done; None if the file does not say anything of it.

        :raises NotFound: `USED_NOT_FOUND`, if it names a variant that there will not be
        """
        if self._declared is None:
            return None
        slugs = self.variants.slugs(has)
        self._check_names(slugs)
        found = rules.changes(former, rules.routing(self._declared, former, slugs.__getitem__))
        if not found:
            return VariantPlan(_KEY)

        def update(etag: str, is_dry: bool) -> Outcome:
            # New variants have their slugs by now.
            known = slugs | self.variants.made
            return self._write(rules.routing(self._declared or {}, former, known.__getitem__), etag, is_dry=is_dry)

        return VariantPlan(_KEY, found, Step("routing", update))

    def check(self, has: Sequence[pb.Variant], former: routing_pb2.Routing) -> None:
        """Whether it would be taken, before anything is written; new variants are taken for one that is there.

        :raises AppError: as the registry refuses it, with the places in the file
        """
        if not has:
            return
        slugs, there = self.variants.slugs(has), {each.slug for each in has}
        wanted = rules.routing(self._declared or {}, former, slugs.__getitem__)
        if not there.issuperset(slugs[name] for _, name in rules.variants(self._declared or {})):
            wanted.baseline = has[0].slug
            for rule in wanted.rules:
                rule.variant = has[0].slug
        self._write(wanted, "", is_dry=True)

    def _write(self, wanted: routing_pb2.Routing, etag: str, *, is_dry: bool) -> Outcome:
        name = f"{self.server.parent}/deployments/{self.document.name}"
        deployment = pb.Deployment(name=name, etag=etag)
        if wanted.ListFields():
            deployment.routing.CopyFrom(wanted)
        request = service_pb.UpdateDeploymentRequest(
            deployment=deployment,
            update_mask=FieldMask(paths=["routing"]),
            validate_only=is_dry,
            description=self.options.description,
        )
        with in_file(self.document):
            changed = self.server.deployments.UpdateDeployment(request)
        note = f"revision {changed.revision}"
        return Outcome(changed.etag, tuple(changed.warnings), changed.change_request, note)

    def _check_names(self, known: Mapping[str, Any]) -> None:
        failures = Failures()
        for path, name in rules.variants(self._declared or {}):
            if name not in known:
                with failures.collected():
                    there = ", ".join(known) or "none"
                    raise missing(self.document, path, f"names a variant that there is not; there are {there}")
        failures.raise_all()


@contextmanager
def in_file(document: Document) -> Iterator[None]:
    """What is refused of a routing has its places in the file."""
    try:
        yield
    except grpc.RpcError as failure:
        if not hasattr(failure, "code"):
            raise
        error = status.from_rpc_error(failure, peer="turnout")
        if not any(each.field.startswith("deployment.routing") for each in error.violations):
            raise
        fields: Mapping[str, Any] = document.fields["routing"]  # type: ignore[assignment]  # by its shape
        paths = [rules.path_in_file(each.field, fields) for each in error.violations]
        message = error.message
        for each, path in zip(error.violations, paths, strict=True):
            message = message.replace(each.field, path)
        rest = message.removeprefix(paths[0])
        error.message = document.at(paths[0]) + (f": {message}" if rest == message else rest)
        error.violations = tuple(
            Violation(document.at(path), each.message) for each, path in zip(error.violations, paths, strict=True)
        )
        raise error from None
