from __future__ import annotations

import pytest

from services.executor.providers.images import Inline, inline_image


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("data:image/png;base64,iVBORw==", Inline("image/png", "iVBORw==")),
        ("DATA:image/JPG;BASE64,iVBORw==", Inline("image/jpeg", "iVBORw==")),
        ("data:image/png;name=a.png;base64,iVBORw%3D%3D", Inline("image/png", "iVBORw==")),
        ("data:image/svg+xml,%3Csvg/%3E", Inline("image/svg+xml", "PHN2Zy8+")),
        ("data:image/png;base64", None),
        ("https://example.com/a.png", None),
        ("", None),
    ],
)
def test_what_a_data_url_holds(url: str, found: Inline | None) -> None:
    assert inline_image(url) == found
