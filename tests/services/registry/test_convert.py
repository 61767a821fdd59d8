from __future__ import annotations

import pytest

from kit.errors import Invalid
from kit.storable import check_message
from services.registry.convert.text import write_from_proto
from turnout.registry.v1 import provider_service_pb2


def request() -> provider_service_pb2.CreateProviderRequest:
    made = provider_service_pb2.CreateProviderRequest(parent="projects/a", provider_id="b", request_id="r")
    made.provider.credential = "sk-1"
    made.provider.display_name = "B"
    return made


def test_a_fingerprint_covers_the_request_but_not_its_secret_its_id_or_whether_it_is_dry() -> None:
    secret = ("provider", "credential")
    base = write_from_proto(request(), secret=secret)
    same, other = request(), request()
    same.provider.credential, same.request_id, same.validate_only = "sk-2", "q", True
    other.provider.display_name = "C"

    assert write_from_proto(same, secret=secret).fingerprint == base.fingerprint
    assert write_from_proto(other, secret=secret).fingerprint != base.fingerprint
    assert request().provider.credential == "sk-1", "the request itself is left alone"


def test_text_that_no_store_could_hold_is_named_wherever_it_is() -> None:
    wrong = request()
    wrong.parent, wrong.provider.display_name = "a\0", "\0"

    with pytest.raises(Invalid) as failure:
        check_message(wrong)

    assert {violation.field for violation in failure.value.violations} == {"parent", "provider.display_name"}
