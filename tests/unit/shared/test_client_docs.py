"""docs/clients.md, held against the code."""

import re

from google.protobuf import json_format

from crease.jobs.v1 import job_pb2, session_pb2
from crease.upload.v1 import upload_pb2
from crease_client.channels import SERVICE_CONFIG
from scripts import client_docs
from services.cli.commands.up import PORT_BASE


def test_the_tables_are_those_of_the_code() -> None:
    """Every reason and every failure code. If this fails, run `python -m scripts.client_docs`."""
    assert client_docs.PAGE.read_text() == client_docs.page(client_docs.PAGE.read_text())


def test_the_page_names_the_ports_and_deadlines_of_the_code() -> None:
    """The ports of `crease up`, and the service config of the client."""
    text = client_docs.PAGE.read_text()
    assert {PORT_BASE, PORT_BASE + 1} == {int(port) for port in re.findall(r"127\.0\.0\.1:(\d+)", text)}
    stated = dict(re.findall(r"^\| (\w+)[^|]* \| (\d+) s", text, re.MULTILINE))
    config = SERVICE_CONFIG["methodConfig"]
    assert stated["each"] + "s" == config[0]["timeout"]
    named = {name["method"]: one for one in config for name in one["name"] if "method" in name}
    assert stated["CompleteUpload"] + "s" == named["CompleteUpload"]["timeout"]
    assert stated["RetryJob"] + "s" == named["RetryJob"]["timeout"]


def test_the_grpcurl_lines_name_methods_and_fields_that_exist() -> None:
    """A renamed RPC or field renames its mention. `make slow` runs the lines where grpcurl is installed."""
    pattern = r"^grpcurl .*?(?:-d '(.*?)' )?127\.0\.0\.1:(\d+) ([\w.]+)/(\w+)$"
    lines = re.findall(pattern, client_docs.PAGE.read_text(), re.MULTILINE)
    assert len(lines) >= 4
    services = {
        service.full_name: service
        for proto in (job_pb2, session_pb2, upload_pb2)
        for service in proto.DESCRIPTOR.services_by_name.values()
    }
    for data, port, service, method in lines:
        request = services[service].methods_by_name[method].input_type._concrete_class()
        json_format.Parse(data or "{}", request)
        assert int(port) == PORT_BASE + (service == "crease.upload.v1.UploadService")
