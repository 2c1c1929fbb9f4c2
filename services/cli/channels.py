"""How a service is reached: `host:port` in the clear, `https://host:port` by TLS."""

import grpc

from services.clients import CHANNEL_OPTIONS


def open_channel(endpoint: str) -> grpc.Channel:
    """A channel that no proxy of the environment gets between, where the service is on this machine."""
    target = endpoint.removeprefix("https://").removeprefix("http://")
    options = list(CHANNEL_OPTIONS)
    if target.startswith(("127.0.0.1:", "localhost:")):
        options.append(("grpc.enable_http_proxy", 0))
    if endpoint.startswith("https://"):
        return grpc.secure_channel(target, grpc.ssl_channel_credentials(), options)
    return grpc.insecure_channel(target, options)
