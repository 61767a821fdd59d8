"""The only outbound HTTP: checked addresses, no redirects, no proxy from the environment, every answer bounded."""

from kit.egress.answer import EgressStream
from kit.egress.client import Egress, EgressResponse, Timeouts
from kit.egress.policy import EgressPolicy, Reach, check_url, reach_of
from kit.egress.resolver import Resolver, SystemResolver

__all__ = [
    "Egress",
    "EgressPolicy",
    "EgressResponse",
    "EgressStream",
    "Reach",
    "Resolver",
    "SystemResolver",
    "Timeouts",
    "check_url",
    "reach_of",
]
