"""schema.sql, held against the migrations."""

from scripts import schema


def test_schema_sql_is_the_schema_after_the_last_migration(database_url: str) -> None:
    """If this fails, run `make schema` and read the difference."""
    assert schema.FILE.read_text() == schema.dump(database_url)
