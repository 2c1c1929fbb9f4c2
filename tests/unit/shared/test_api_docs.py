"""docs/api.md, held against its sources."""

from scripts import api_docs


def test_the_page_matches_the_protos_and_the_rights_tables() -> None:
    """If this fails, run `python -m scripts.api_docs` and read the difference."""
    assert api_docs.PAGE.read_text() == api_docs.page()


def test_every_rpc_has_a_contract_and_callers() -> None:
    """The comment of an RPC is its contract."""
    for file in api_docs.parse():
        comments = api_docs.Comments(file)
        for number, service in enumerate(file.service):
            for at, rpc in enumerate(service.method):
                assert comments.at(api_docs.SERVICES, number, api_docs.INSIDE, at), rpc.name
                assert api_docs.callers(file, service.name, rpc.name), rpc.name
