"""`crease up --lan`: the address at which the devices of this network reach the page, and its QR code for a phone."""

import io
import socket
from collections.abc import MutableMapping

import segno

from services.cli.errors import CommandError
from services.cli.ui import console

LOOPBACK = "127.0.0.1"
# An address of documentation (RFC 5737): a UDP socket chooses its own address for it, and sends nothing.
ANYWHERE = ("192.0.2.1", 9)


def find_address() -> str:
    """This machine's address in its network. Raises CommandError."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(ANYWHERE)
            address: str = probe.getsockname()[0]
    except OSError:
        raise CommandError("--lan: this machine is in no network. Connect it, or start without --lan.") from None
    return address


def bypass_proxy(environment: MutableMapping[str, str], address: str) -> None:
    """Lets the programs call the machine's own address without the user's proxy, as they call the loopback one."""
    environment["no_proxy"] = ",".join(filter(None, (environment.get("no_proxy"), address)))


def is_open(page: str) -> bool:
    """Whether other devices reach the page at this address."""
    return f"//{LOOPBACK}:" not in page


def print_code(page: str) -> None:
    """Prints the address as a QR code, on a terminal that can show one."""
    if console.OUT.is_terminal and console.OUT.encoding.lower().startswith("utf"):
        drawn = io.StringIO()
        segno.make(page).terminal(drawn, compact=True)
        for line in drawn.getvalue().splitlines():
            console.print_line(line, whole=True)
        console.print_line("Point a phone's camera at the code: it opens the page, signed in.")
