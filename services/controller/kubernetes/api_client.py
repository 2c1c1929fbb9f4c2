"""Requests to a Kubernetes API server, in the API's own JSON.

The client library finds the server, its certificate authority and the credentials (a kubeconfig, or the pod's own
ServiceAccount). Its models are left out: they cost several times as much as the request.

A request has one of three outcomes: the answer; Refusal, with the server's reason; Unknown, if the server was
unavailable, too slow or failed, so that the request may have been executed or not.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config
from pydantic_core import from_json

from services import logs, traces
from services.controller.core import metrics
from services.controller.core.launcher import Unknown

Object = dict[str, Any]

CALL_SECONDS = 10.0
CONNECT_SECONDS = 5.0
# A throttled request (429) is sent this often, each time after Retry-After but at most after MAX_WAIT_SECONDS.
TRIES = 5
MAX_WAIT_SECONDS = 10.0
# The client waits this much longer than the server's own timeout of a watch.
WATCH_GRACE_SECONDS = 5.0


class Refusal(Exception):
    """The server refused the request: HTTP status code, the API's reason (AlreadyExists), and its message."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


class Api(Protocol):
    """The requests that the controller sends. Each raises Refusal or Unknown."""

    @property
    def now(self) -> datetime:
        """The server's time, to the second. Timestamps in objects must be compared with this clock only."""

    async def get(self, path: str, **query: Any) -> Object:
        """Reads an object or a list."""

    async def post(self, path: str, body: Object) -> Object:
        """Creates an object."""

    async def put(self, path: str, body: Object) -> Object:
        """Replaces an object."""

    async def patch(self, path: str, body: Object) -> Object:
        """Merges into an object."""

    async def delete(self, path: str, body: Object) -> Object:
        """Deletes an object; the body is its DeleteOptions."""

    def watch(self, path: str, seconds: float, **query: Any) -> AsyncGenerator[Object, None]:
        """The events after a resourceVersion, for so many seconds. Raises Unknown if the stream breaks."""


class HttpApi:
    """Api by HTTP."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        # The server accepts no request before this time of the event loop's clock.
        self._not_before = 0.0
        # The server's clock minus this machine's.
        self._clock_skew = timedelta()

    @property
    def now(self) -> datetime:
        return datetime.now(UTC) + self._clock_skew

    async def get(self, path: str, **query: Any) -> Object:
        return await self._request("GET", path, query)

    async def post(self, path: str, body: Object) -> Object:
        return await self._request("POST", path, {}, body)

    async def put(self, path: str, body: Object) -> Object:
        return await self._request("PUT", path, {}, body)

    async def patch(self, path: str, body: Object) -> Object:
        return await self._request("PATCH", path, {}, body, "application/merge-patch+json")

    async def delete(self, path: str, body: Object) -> Object:
        return await self._request("DELETE", path, {}, body)

    async def watch(self, path: str, seconds: float, **query: Any) -> AsyncGenerator[Object, None]:
        query |= {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": int(seconds)}
        timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS, sock_read=seconds + WATCH_GRACE_SECONDS)
        response = await self._send("GET", path, query, None, "application/json", timeout)
        try:
            if response.status >= 400:
                raise await _error(response)
            async for line in response.content:
                yield from_json(line)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise Unknown(f"The watch broke: {_describe(error)}") from error
        finally:
            response.close()

    async def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any],
        body: Object | None = None,
        content_type: str = "application/json",
    ) -> Object:
        for _ in range(TRIES):
            await self._wait()
            response = await self._send(method, path, query, body, content_type, aiohttp.ClientTimeout(CALL_SECONDS))
            try:
                if response.status == 429:
                    self._throttle(response.headers.get("Retry-After", "1"))
                    continue
                if response.status >= 400:
                    raise await _error(response)
                answer: Object = from_json(await response.read())
                return answer
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                raise Unknown(f"The answer to {method} {path} is incomplete: {_describe(error)}") from error
            finally:
                response.release()
        raise Unknown(f"The API server throttled {method} {path} {TRIES} times")

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any],
        body: Object | None,
        content_type: str,
        limits: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        headers = {"Content-Type": content_type, "User-Agent": "crease-controller"}
        client = self._client
        verb, started = "WATCH" if "watch" in query else method, time.monotonic()
        try:
            await client.update_params_for_auth(headers, None, ["BearerToken"], path, method, None)
            given = {name: value for name, value in query.items() if value != ""}
            url = f"{client.configuration.host}{path}" + (f"?{urlencode(given)}" if given else "")
            with traces.span(method, called=True) as span:
                span.add(**{"http.request.method": method, "url.path": path})
                answer = await client.rest_client.request(
                    method, url, headers=headers, body=body, _request_timeout=limits
                )
                span.add(**{"http.response.status_code": answer.response.status})
        except (aiohttp.ClientError, TimeoutError, OSError, ConfigException) as error:
            metrics.KUBE_REQUESTS.labels(verb, "0").inc()
            raise Unknown(f"No answer to {method} {path}: {_describe(error)}") from error
        finally:
            logs.add_duration("kube_ms", time.monotonic() - started)
        response: aiohttp.ClientResponse = answer.response
        metrics.KUBE_REQUESTS.labels(verb, str(response.status)).inc()
        if date := response.headers.get("Date"):
            self._clock_skew = parsedate_to_datetime(date) - datetime.now(UTC)
            metrics.CLOCK_SKEW.set(self._clock_skew.total_seconds())
        return response

    async def _wait(self) -> None:
        await asyncio.sleep(self._not_before - asyncio.get_running_loop().time())

    def _throttle(self, retry_after: str) -> None:
        """Delays every further request, as the server's flow control asks."""
        try:
            seconds = float(retry_after)
        except ValueError:
            seconds = 1.0
        wait = min(max(seconds, 0.05), MAX_WAIT_SECONDS)
        self._not_before = max(self._not_before, asyncio.get_running_loop().time() + wait)


async def _error(response: aiohttp.ClientResponse) -> Exception:
    """Refusal or Unknown, from an error response. 401 and 5xx do not tell whether the request was executed."""
    text = await response.text()
    try:
        status = from_json(text)
        reason, message = str(status.get("reason", "")), str(status.get("message", ""))
    except (ValueError, AttributeError):
        reason, message = "", text[:200]
    if response.status == 401 or response.status >= 500:
        return Unknown(f"The API server answered {response.status} {reason}: {message}")
    return Refusal(response.status, reason, message)


def _describe(error: Exception) -> str:
    return str(error) or type(error).__name__


def _proxy_of(url: str) -> str | None:
    """The proxy for a URL, by HTTPS_PROXY and NO_PROXY."""
    parts = urlsplit(url)
    return None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)


@asynccontextmanager
async def open_api(kubeconfig: Path | None, connections: int) -> AsyncIterator[Api]:
    """The API server of a kubeconfig, else the one of this pod. Raises SystemExit if neither can be loaded."""
    configuration = Configuration()
    try:
        if kubeconfig:
            await load_kube_config(config_file=str(kubeconfig), client_configuration=configuration)
        else:
            load_incluster_config(client_configuration=configuration)
    except (ConfigException, OSError) as error:
        raise SystemExit(f"CREASE_KUBECONFIG: {error}") from None
    # The library's own retries would hide the server's throttling.
    configuration.retries = None
    # Otherwise the session reads ~/.netrc and the proxy variables at each request, in another thread.
    configuration.client_session_kwargs = {"trust_env": False}
    configuration.proxy = configuration.proxy or _proxy_of(configuration.host)
    configuration.connection_pool_maxsize = connections
    async with ApiClient(configuration) as client:
        yield HttpApi(client)
