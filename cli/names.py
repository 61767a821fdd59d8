"""How people name things: `guide`, `guide:staging`, `guide/variant-1`, or the whole name, as commands print it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import typer

from cli.client import Client

LIVE: Final = "live"


@dataclass(frozen=True, slots=True)
class Named:
    """What a person's words for a deployment say."""

    parent: str
    """`projects/{project}`"""
    slug: str
    """Or uid."""
    variant: str = ""
    """Slug, uid or number; empty if none was named."""
    alias: str = ""
    """Empty if none was named."""

    @property
    def full(self) -> str:
        """The deployment's resource name."""
        return f"{self.parent}/deployments/{self.slug}"

    def alias_or(self, option: str, *, hint: str = "--alias") -> str:
        """The alias that is meant.

        :param option: what `--alias` says; empty if it was not given
        :raises typer.BadParameter: if both name one, and not the same
        """
        if self.alias and option not in ("", self.alias):
            raise typer.BadParameter(f"the name says {self.alias} already: give one of the two", param_hint=hint)
        return self.alias or option or LIVE

    def variant_or(self, argument: str) -> str:
        """The variant that is meant.

        :param argument: slug, uid, number or whole name, as the command's own argument says it; empty if it does not
        :raises typer.BadParameter: if both name one, and not the same; or one of another deployment
        """
        of, _, segment = argument.rpartition("/variants/")
        if of and of != self.full:
            raise typer.BadParameter(f"this variant is not one of {self.full}", param_hint="variant")
        segment = segment or argument
        if self.variant and segment not in ("", self.variant):
            raise typer.BadParameter(f"the name says {self.variant} already: give one of the two", param_hint="variant")
        return segment or self.variant

    def whole(self) -> str:
        """The deployment's resource name, for what concerns all of it.

        :raises typer.BadParameter: if an alias or a variant was named
        """
        if self.alias or self.variant:
            raise typer.BadParameter(
                f"this concerns all of {self.slug}, every alias and variant: give that name alone",
                param_hint="deployment",
            )
        return self.full


def deployment(client: Client, given: str) -> Named:
    """A deployment, with the alias or variant that may stand behind its name.

    :raises typer.BadParameter: if it is none
    """
    name, slash, variant = given, "", ""
    parent = ""
    if given.startswith("projects/"):
        parts = given.split("/")
        if len(parts) not in (4, 6) or parts[2] != "deployments" or (len(parts) == 6 and parts[4] != "variants"):
            raise _malformed(given)
        parent, name, variant = "/".join(parts[:2]), parts[3], parts[5] if len(parts) == 6 else ""
        slash = "/" if len(parts) == 6 else ""
    else:
        name, slash, variant = given.partition("/")
    slug, colon, alias = name.partition(":")
    if not slug or (colon and not alias) or (slash and not variant) or "/" in variant:
        raise _malformed(given)
    return Named(parent or client.parent, slug, variant, alias)


def target(client: Client, given: str) -> str:
    """A deployment as calls name it: in the project that was chosen, so that no key of another one finds a namesake."""
    if not client.chosen_project or given.startswith("projects/"):
        return given
    return f"projects/{client.chosen_project}/deployments/{given}"


def resource(client: Client, given: str, collection: str) -> str:
    """The whole name of anything else of a project.

    :param given: its slug, uid or number, or its whole name already
    :param collection: as `providers`
    :raises typer.BadParameter: if it is none
    """
    if not given.startswith("projects/"):
        return f"{client.parent}/{collection}/{given}"
    parts = given.split("/")
    if len(parts) != 4 or parts[2] != collection:
        raise typer.BadParameter(
            f"expected one of {collection}, as NAME or projects/PROJECT/{collection}/NAME, not {given!r}"
        )
    return given


def _malformed(given: str) -> typer.BadParameter:
    return typer.BadParameter(
        "a deployment is named guide, guide:staging (with an alias), guide/variant-1 (with a variant) or "
        f"projects/PROJECT/deployments/guide, not {given!r}",
        param_hint="deployment",
    )
