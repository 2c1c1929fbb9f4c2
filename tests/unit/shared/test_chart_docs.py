"""The README of the chart agrees with its values and its schema."""

from scripts import chart_docs


def test_the_readme_says_what_values_and_schema_say() -> None:
    """If this fails, run `make chart` and review the change."""
    assert chart_docs.PAGE.read_text() == chart_docs.page()


def test_every_value_has_a_meaning_and_a_kind() -> None:
    """A comment above the key in values.yaml, and its entry in the schema."""
    found = chart_docs.values()
    assert len(found) > 100
    assert [value.key for value in found if not value.meaning] == []
    assert [value.key for value in found if not chart_docs.kind(chart_docs.schema_of(value.path))] == []
