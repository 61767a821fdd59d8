from completions.text import fault


def test_ordinary_text_of_any_script_has_no_fault() -> None:
    assert fault("") is None
    assert fault("naïve 日本 \U0001f600 \x01\t") is None


def test_what_no_store_can_hold_is_a_fault() -> None:
    assert "NUL" in (fault("a\0b") or "")
    assert "surrogate" in (fault("a\ud800") or "")
