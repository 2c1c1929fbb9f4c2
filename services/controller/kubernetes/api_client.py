"""Requests to a Kubernetes API server, in the API's own JSON.

The client library knows how to find the server, trust it and prove who asks (a kubeconfig or the pod's own
ServiceAccount); its models are left out, since they cost several times what the request does.

An answer is one of three: what was asked for; Refusal, which says why not; Unknown, where nothing is known: the server
was away, too slow or broke, and what was asked for may have happened.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
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
# How often a request is sent that the server has no room for, and how long it is believed when it says for how long.
TRIES = 5
LONGEST_WAIT_SECONDS = 10.0
# Beyond the time after which the server itself ends a watch.
WATCH_GRACE_SECONDS = 5.0


class Refusal(Exception):
    """The server's no: the status code, its word for it (AlreadyExists) and its sentence."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


class Api:
    def __init__(self, client: ApiClient) -> None:
        self._client = client
        # Until then the server wants no requests; by the clock of the event loop.
        self._not_before = 0.0
        # By how much its clock is ahead of ours.
        self._ahead = timedelta()

    @property
    def now(self) -> datetime:
        """The server's time, to the second: what it writes into objects must not be compared with another clock."""
        return datetime.now(UTC) + self._ahead

    async def get(self, path: str, **query: Any) -> Object:
        """An object or a list. Raises Refusal, Unknown; so do all that follow."""
        return await self._ask("GET", path, query)

    async def post(self, path: str, body: Object, **query: Any) -> Object:
        """Creates an object."""
        return await self._ask("POST", path, query, body)

    async def put(self, path: str, body: Object) -> Object:
        """Replaces an object."""
        return await self._ask("PUT", path, {}, body)

    async def patch(self, path: str, body: Object) -> Object:
        """Merges into an object."""
        return await self._ask("PATCH", path, {}, body, "application/merge-patch+json")

    async def delete(self, path: str, body: Object) -> Object:
        """Deletes an object, by its DeleteOptions."""
        return await self._ask("DELETE", path, {}, body)

    async def watch(self, path: str, seconds: float, **query: Any) -> AsyncGenerator[Object, None]:
        """What happens after a resourceVersion, for so many seconds; a broken stream is Unknown."""
        query |= {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": int(seconds)}
        limits = aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS, sock_read=seconds + WATCH_GRACE_SECONDS)
        response = await self._send("GET", path, query, None, "application/json", limits)
        try:
            if response.status >= 400:
                raise await _refusal(response)
            async for line in response.content:
                yield from_json(line)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise Unknown(f"The watch broke: {_words(error)}") from error
        finally:
            response.close()

    async def _ask(
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
                    self._put_off(response.headers.get("Retry-After", "1"))
                    continue
                if response.status >= 400:
                    raise await _refusal(response)
                answer: Object = from_json(await response.read())
                return answer
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                raise Unknown(f"No whole answer to {method} {path}: {_words(error)}") from error
            finally:
                response.release()
        raise Unknown(f"The API server has no room for {method} {path}")

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
        verb, began = "WATCH" if "watch" in query else method, time.monotonic()
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
            raise Unknown(f"No answer to {method} {path}: {_words(error)}") from error
        finally:
            logs.add_duration("kube_ms", time.monotonic() - began)
        response: aiohttp.ClientResponse = answer.response
        metrics.KUBE_REQUESTS.labels(verb, str(response.status)).inc()
        if date := response.headers.get("Date"):
            self._ahead = parsedate_to_datetime(date) - datetime.now(UTC)
            metrics.CLOCK_SKEW.set(self._ahead.total_seconds())
        return response

    async def _wait(self) -> None:
        await asyncio.sleep(self._not_before - asyncio.get_running_loop().time())

    def _put_off(self, retry_after: str) -> None:
        """The server's flow control: no request of ours before then."""
        try:
            seconds = float(retry_after)
        except ValueError:
            seconds = 1.0
        wait = min(max(seconds, 0.05), LONGEST_WAIT_SECONDS)
        self._not_before = max(self._not_before, asyncio.get_running_loop().time() + wait)


async def _refusal(response: aiohttp.ClientResponse) -> Exception:
    """The exception that an error's body means. 401 and 5xx are no answers to what was asked."""
    text = await response.text()
    try:
        status = from_json(text)
        reason, message = str(status.get("reason", "")), str(status.get("message", ""))
    except (ValueError, AttributeError):
        reason, message = "", text[:200]
    if response.status == 401 or response.status >= 500:
        return Unknown(f"The API server answered {response.status} {reason}: {message}")
    return Refusal(response.status, reason, message)


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__


def _proxy_to(url: str) -> str | None:
    """As HTTPS_PROXY and NO_PROXY say."""
    parts = urlsplit(url)
    return None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)


@asynccontextmanager
async def connected(kubeconfig: Path | None, connections: int) -> AsyncIterator[Api]:
    """The API server that a kubeconfig names, else the one whose pod this is. Ends the program where there is none."""
    configuration = Configuration()
    try:
        if kubeconfig:
            await load_kube_config(config_file=str(kubeconfig), client_configuration=configuration)
        else:
            load_incluster_config(client_configuration=configuration)
    except (ConfigException, OSError) as error:
        raise SystemExit(f"CREASE_KUBECONFIG: {error}") from None
    # Its own retries would hide what the server says of its load.
    configuration.retries = None
    # Else the session reads ~/.netrc and asks the environment for a proxy at each request, each in another thread.
    configuration.client_session_kwargs = {"trust_env": False}
    configuration.proxy = configuration.proxy or _proxy_to(configuration.host)
    configuration.connection_pool_maxsize = connections
    async with ApiClient(configuration) as client:
        yield Api(client)
