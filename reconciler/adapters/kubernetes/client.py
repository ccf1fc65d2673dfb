"""One small client for the Kubernetes API: plain dicts in and out, and what an answer means.

The cluster adapter, the Lease and the Argo engine call it. Where the cluster is and who we are there comes from
the official package: a context of the kubeconfig, or the pod's ServiceAccount, whose token it reads again each
minute. Reads are repeated a few times, with jitter. Writes are sent once: after a Retryable one may have been
done or not, and the caller looks. What an answer raises:

==============================================  =======================================================
no connection, no answer in time, 5xx           Retryable (a webhook that does not answer is a 500)
429                                             Retryable, with the instant from which it may be asked
409, changed by another since it was read       :class:`Changed`, a Retryable
403, since its namespace is being deleted       Retryable
410 while paging                                the list begins again, once; then Retryable
a certificate that is not trusted, 3xx          Terminal
every other 4xx                                 :class:`Refused`, a Terminal that keeps status and reason
404                                             of these :class:`Missing`, or :class:`NotInstalled` where
                                                the server has no such kind of object; where every
                                                server has it (/api/v1), only Refused
500 of an apply, the schema has no such field   of these, as 400 is for every other write
409, it exists                                  of these :class:`AlreadyThere`
409, a field belongs to another manager         of these :class:`Conflict`, which names the owners
==============================================  =======================================================
"""

from __future__ import annotations

import json
import os
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar
from urllib.parse import quote, urlencode

from reconciler.core.base import show_instant
from reconciler.core.errors import Retryable, Terminal

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

Object = dict[str, Any]
"""A Kubernetes object as its JSON has it."""

_Made = TypeVar("_Made")

FIELD_MANAGER = "trueup"
_PAGE = 500
_TRIES = 4
_PATIENCE = timedelta(seconds=10)
_REPEATED = (429, 500, 502, 503, 504)
_TIMEOUT = (5.0, 30.0)
"""Seconds to connect, and between two pieces of an answer."""
_MESSAGE = 500
_IN_POD = ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT")


class Kind(NamedTuple):
    """A kind of object in namespaces: ``Kind("apps/v1", "Deployment", "deployments")``."""

    api_version: str
    name: str
    plural: str

    def path(self, namespace: str, name: str = "", subresource: str = "") -> str:
        root = "/apis/" if "/" in self.api_version else "/api/"
        parts = ("namespaces", namespace, self.plural, name, subresource)
        return root + "/".join([self.api_version, *(quote(part, safe="") for part in parts if part)])


class Request(NamedTuple):
    method: str
    path: str
    query: Mapping[str, str] = {}
    body: Object | None = None
    content_type: str = "application/json"


class Answer(NamedTuple):
    """Whole, whatever its status. The names of ``headers`` are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Transport = Callable[[Request], Answer]
"""One request and its answer. Raises Retryable where there is none."""


class Refused(Terminal):
    """The server understood and said no: a 4xx. ``message`` is its own sentence, for people only."""

    def __init__(self, status: int, reason: str, message: str, what: str, *, where: str, hint: str) -> None:
        super().__init__(what, where=where, hint=hint)
        self.status = status
        self.reason = reason
        self.message = message


class Missing(Refused):
    """There is no such object."""


class NotInstalled(Refused):
    """There is no such kind of object: its CustomResourceDefinition is not installed."""


class AlreadyThere(Refused):
    """An object of that name exists."""


class Conflict(Refused):
    """Fields of the applied object belong to others: ``owners`` are (manager, field)."""

    owners: tuple[tuple[str, str], ...] = ()


class Changed(Retryable):
    """The object was changed, or is another one, since it was read."""


class KubernetesClient:
    """Calls to one cluster. ``where`` names it in messages. The rest of the arguments are for tests."""

    def __init__(
        self,
        transport: Transport,
        *,
        where: str,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        jitter: random.Random | None = None,
    ) -> None:
        self.where = where
        self._ask, self._sleep, self._clock = transport, sleep, clock
        self._jitter = jitter or random.Random()  # noqa: S311 - it spreads load and keeps no secret

    # --- reads --------------------------------------------------------------------------------------------

    def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """One object; None if there is none. Raises :class:`NotInstalled` if there is no such kind."""
        try:
            return self._object(self._read(Request("GET", kind.path(namespace, name))))
        except Missing:
            return None

    def list(self, kind: Kind, namespace: str, *, labels: str = "", page: int = _PAGE) -> list[Object]:
        """Every object that the label selector matches, ``page`` of them a call."""
        return list(self.gather(kind, namespace, lambda item: item, labels=labels, page=page))

    def gather(
        self,
        kind: Kind,
        namespace: str,
        made: Callable[[Object], _Made],
        *,
        labels: str = "",
        page: int = _PAGE,
    ) -> Sequence[_Made]:
        """As ``list``, of what ``made`` makes of each object: of large ones, no more than a page is kept."""
        for _ in range(2):
            try:
                query = {"labelSelector": labels} if labels else {}
                return [made(item) for item in self._pages(kind, namespace, query, page)]
            except _Expired:
                continue  # the server forgot the rest of the list; its beginning may have changed too
        what = f"the list of {kind.plural} in {namespace} expired twice while it was read"
        raise Retryable(what, where=self.where, hint="it is tried again")

    def read(self, path: str) -> Object:
        """What discovery tells at ``/version`` or ``/apis/GROUP``. :class:`NotInstalled` for no such group."""
        return self._object(self._read(Request("GET", path)))

    def text(self, kind: Kind, namespace: str, name: str, subresource: str, query: Mapping[str, str]) -> bytes:
        """What a subresource gives that is no object: a pod's log."""
        return self._read(Request("GET", kind.path(namespace, name, subresource), query)).body

    # --- writes -------------------------------------------------------------------------------------------

    def rules(self, namespace: str) -> Object:
        """What we may do there: the status of a SelfSubjectRulesReview, asked by a POST and kept nowhere."""
        api = "authorization.k8s.io/v1"
        body = {"apiVersion": api, "kind": "SelfSubjectRulesReview", "spec": {"namespace": namespace}}
        answer = self._read(Request("POST", f"/apis/{api}/selfsubjectrulesreviews", body=body))
        status = self._object(answer).get("status")
        return status if isinstance(status, dict) else {}

    def create(self, kind: Kind, namespace: str, body: Object) -> Object:
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        return self._object(self._write(Request("POST", kind.path(namespace), query, _full(kind, body))))

    def apply(
        self, kind: Kind, namespace: str, body: Object, *, force: bool = False, dry_run: bool = False
    ) -> Object:
        """Server-side apply of our fields; the whole object as it is then. ``force`` takes them from others."""
        query = {
            "fieldManager": FIELD_MANAGER,
            "fieldValidation": "Strict",
            "force": "true" if force else "false",
        } | ({"dryRun": "All"} if dry_run else {})
        path = kind.path(namespace, body["metadata"]["name"])
        request = Request("PATCH", path, query, _full(kind, body), "application/apply-patch+yaml")
        return self._object(self._write(request))

    def patch(
        self, kind: Kind, namespace: str, name: str, body: Object, *, subresource: Literal["", "status"] = ""
    ) -> Object:
        """A merge patch (RFC 7386). A ``metadata.resourceVersion`` in it makes it a compare-and-swap."""
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        path = kind.path(namespace, name, subresource)
        return self._object(self._write(Request("PATCH", path, query, body, "application/merge-patch+json")))

    def delete(self, kind: Kind, namespace: str, name: str, *, uid: str = "") -> bool:
        """Delete it, and what it owns after it; False if it is gone. With ``uid``, only that very object."""
        body: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if uid:
            body["preconditions"] = {"uid": uid}
        try:
            self._write(Request("DELETE", kind.path(namespace, name), {}, body))
        except Missing:
            return False
        return True

    # --- one call -----------------------------------------------------------------------------------------

    def _pages(self, kind: Kind, namespace: str, query: dict[str, str], page: int) -> Iterator[Object]:
        query = query | {"limit": str(page)}
        while True:
            answer = self._object(self._read(Request("GET", kind.path(namespace), query)))
            for item in answer.get("items") or ():
                # The items of a list do not say what they are.
                yield {"apiVersion": kind.api_version, "kind": kind.name} | item
            following = (answer.get("metadata") or {}).get("continue")
            if not following:
                return
            query = query | {"continue": following}

    def _read(self, request: Request) -> Answer:
        """A read, again where it failed in passing."""
        for turn in range(_TRIES - 1):
            pause = timedelta(seconds=self._jitter.uniform(0, 2**turn))  # full jitter
            try:
                answer = self._ask(request)
            except Retryable:
                answer = None
            if answer is not None:
                if answer.status not in _REPEATED:
                    return self._checked(request, answer)
                pause = _retry_after(answer) or pause
                if pause > _PATIENCE:
                    return self._checked(request, answer)
            self._sleep(pause.total_seconds())
        return self._checked(request, self._ask(request))

    def _write(self, request: Request) -> Answer:
        return self._checked(request, self._ask(request))

    def _object(self, answer: Answer) -> Object:
        try:
            value = json.loads(answer.body)
        except ValueError:
            value = None
        if isinstance(value, dict):
            return value
        hint = "its address or a proxy may be wrong; try again"
        raise Retryable("a success came without a JSON object", where=self.where, hint=hint)

    # --- what an answer means -----------------------------------------------------------------------------

    def _checked(self, request: Request, answer: Answer) -> Answer:
        """``answer`` if it is a success."""
        status, call = answer.status, f"{request.method} {request.path}"
        if 200 <= status < 300:
            return answer
        said = _status(answer)
        reason, details = str(said.get("reason") or ""), said.get("details") or {}
        causes = [cause for cause in details.get("causes") or () if isinstance(cause, dict)]
        message = " ".join(str(said.get("message") or "").split())[:_MESSAGE]
        what = message or f"{call} is answered with status {status}"
        if status == 410 and "continue" in request.query:
            raise _Expired(what, where=self.where)
        # The one answer that only its text tells apart.
        misfit = status == 500 and not reason and "failed to create typed patch object" in message
        if (status == 429 or status >= 500) and not misfit:
            after = _retry_after(answer)
            free = f"not before {show_instant(self._clock() + after)}" if after else "it is tried again"
            raise Retryable(f"{call} failed with status {status}: {what}", where=self.where, hint=free)
        if status < 400:
            hint = "give the address of the API server itself in the kubeconfig"
            raise Terminal(f"{call} is sent on elsewhere with status {status}", where=self.where, hint=hint)
        if any(cause.get("reason") == "NamespaceTerminating" for cause in causes):
            hint = "wait until it is gone; create it again, or name another one in environment.yaml"
            raise Retryable(f"the namespace is being deleted: {what}", where=self.where, hint=hint)
        owners = tuple(
            (_manager(str(cause.get("message", ""))), str(cause.get("field", "")))
            for cause in causes
            if cause.get("reason") == "FieldManagerConflict"
        )
        if status == 409 and not owners and reason != "AlreadyExists":
            raise Changed(what, where=self.where, hint="it is looked at again and tried again")
        kind, hint = _refusal(status, reason, details, message)
        if kind is NotInstalled and request.path.startswith("/api/"):
            kind, hint = Refused, "every cluster has that: is this the address of its API server?"
        refused = kind(status, reason, message, what, where=self.where, hint=hint)
        if owners:
            taken = "; ".join(f"{field} belongs to {manager}" for manager, field in owners)
            refused = conflict = Conflict(
                status,
                reason,
                message,
                f"{call.partition(' ')[2]} is not applied: {taken}",
                where=self.where,
                hint="take the field out of what that manager writes, or out of the rendered manifest",
            )
            conflict.owners = owners
        raise refused


class _Expired(Retryable):
    """The server forgot where a paged list was."""


def _refusal(status: int, reason: str, details: Object, message: str) -> tuple[type[Refused], str]:
    """Which refusal it is, and what a person can do about it."""
    if message.startswith("admission webhook"):
        return Refused, "the webhook's owner says what it allows"
    if status == 404 and details.get("kind") == "namespaces":
        return Refused, "create the namespace, or correct environment.yaml"
    if status == 404 and details.get("name"):
        return Missing, ""
    if status == 404:
        return NotInstalled, "install the CustomResourceDefinitions of what this cluster is to run"
    if reason == "AlreadyExists":
        return AlreadyThere, ""
    return Refused, {
        400: "the manifest has a field that this cluster's version does not know",
        500: "the manifest has a field that this cluster's version does not know",
        401: "the token or certificate is wrong or expired: log in again, or renew the ServiceAccount's token",
        403: "grant that verb on that resource to the account that trueup uses",
        413: "the object is larger than the server takes",
        422: "the cluster's own validation refuses it",
    }.get(status, "")


def _status(answer: Answer) -> Object:
    """The Status object that the server answers a failure with; nothing for a proxy's page."""
    try:
        value = json.loads(answer.body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) and value.get("kind") == "Status" else {}


def _manager(cause: str) -> str:
    """The other owner in ``conflict with "kubectl-edit" using apps/v1``: it is told nowhere else."""
    found = re.search(r'conflict with "([^"]{1,200})"', cause)
    return found[1] if found else cause[:200]


def _retry_after(answer: Answer) -> timedelta | None:
    after = answer.headers.get("retry-after", "")
    return timedelta(seconds=min(int(after), 86400)) if after.isdecimal() else None


def _full(kind: Kind, body: Object) -> Object:
    return {"apiVersion": kind.api_version, "kind": kind.name} | body


# --- the real transport -----------------------------------------------------------------------------------


def connect(context: str | None = None) -> KubernetesClient:
    """A client of the cluster that a kubeconfig context names. Nothing is read or contacted yet.

    None: the cluster of this pod if this is a pod and KUBECONFIG is not set, else the kubeconfig's current one.
    """
    in_pod = context is None and "KUBECONFIG" not in os.environ and all(name in os.environ for name in _IN_POD)
    named = f"Kubernetes context {context}" if context else "the kubeconfig's current context"
    where = "this pod's cluster" if in_pod else named
    return KubernetesClient(_Wire(context, in_pod, where), where=where)


class _Wire:
    """The official package's connection: certificates, tokens that expire, login plugins, proxies."""

    def __init__(self, context: str | None, in_pod: bool, where: str) -> None:
        self._context, self._in_pod, self._where = context, in_pod, where
        self._api: ApiClient | None = None

    def __call__(self, request: Request) -> Answer:
        from kubernetes.client.exceptions import OpenApiException
        from kubernetes.config import ConfigException
        from urllib3.exceptions import HTTPError, SSLError

        path = f"{request.path}?{urlencode(request.query)}" if request.query else request.path
        headers = {"Accept": "application/json", "Accept-Encoding": "gzip"}  # a list is some ten times smaller
        if request.body is not None:
            headers["Content-Type"] = request.content_type
        try:
            self._api = api = self._api or self._load()
            call = api.param_serialize(
                request.method, path, header_params=headers, body=request.body, auth_settings=["BearerToken"]
            )
            answer = api.call_api(*call, _request_timeout=_TIMEOUT)
            body = answer.read()
        except (SSLError, OpenApiException) as error:
            said = " ".join(str(getattr(error, "reason", "") or error).split())[:_MESSAGE]
            hint = "check the certificate-authority of the kubeconfig and the server's address"
            raise Terminal(f"no trusted connection: {said}", where=self._where, hint=hint) from None
        except (ConfigException, OSError) as error:
            hint = "see `kubectl config get-contexts`; environments/platform.yaml names the context"
            raise Terminal(f"cannot be used: {error}", where=self._where, hint=hint) from None
        except HTTPError as error:
            what = f"{request.method} {request.path} got no answer: {' '.join(str(error).split())[:_MESSAGE]}"
            hint = "is the API server up, and reachable from here?"
            raise Retryable(what, where=self._where, hint=hint) from None
        return Answer(answer.status, {name.lower(): value for name, value in answer.headers.items()}, body)

    def _load(self) -> ApiClient:
        from kubernetes import config
        from kubernetes.client import ApiClient, Configuration

        settings = Configuration()
        if self._in_pod:
            config.load_incluster_config(settings)
        else:
            file = os.environ.get("KUBECONFIG") or None  # the package reads it when it is imported only
            config.load_kube_config(file, context=self._context, client_configuration=settings)
        settings.retries = False  # what may be repeated is decided above
        api = ApiClient(settings)
        api.user_agent = "trueup"
        return api
