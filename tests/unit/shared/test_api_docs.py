"""docs/api.md agrees with the protos and the authorization tables."""

from scripts import api_docs


def test_the_api_page_says_what_the_protos_and_the_tables_of_rights_say() -> None:
    """If this fails, run `python -m scripts.api_docs` and review the change."""
    assert api_docs.PAGE.read_text() == api_docs.page()


def test_every_rpc_has_a_contract_and_callers() -> None:
    """An RPC's comment is its contract."""
    for file in api_docs.parse():
        comments = api_docs.Comments(file)
        for number, service in enumerate(file.service):
            for at, rpc in enumerate(service.method):
                assert comments.at(api_docs.SERVICES, number, api_docs.INSIDE, at), rpc.name
                assert api_docs.callers(file, service.name, rpc.name), rpc.name
