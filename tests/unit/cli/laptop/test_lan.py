"""The address of `crease up --lan`, and its QR code."""

import ipaddress

import pytest

from services.cli.errors import CommandError
from services.cli.laptop import lan


def test_the_address_is_one_that_other_devices_reach() -> None:
    """Never the loopback one: without a network the command says so."""
    try:
        address = lan.find_address()
    except CommandError:
        pytest.skip("this machine is in no network")
    assert not ipaddress.ip_address(address).is_loopback
    assert lan.is_open(f"http://{address}:7000/sign-in")
    assert not lan.is_open("http://127.0.0.1:7000/sign-in")


def test_a_pipe_gets_no_code(capsys: pytest.CaptureFixture[str]) -> None:
    """The address stands above it in words."""
    lan.print_code("http://192.168.1.2:7000/sign-in?key=x")
    assert capsys.readouterr().out == ""
