"""A real Kubernetes control plane for tests, with Argo Rollouts, and with kwok in place of machines.

tests/conftest.py calls it. kwok says of every pod that it runs and is ready, at once, unless it is annotated
``trueup.test/ready: "no"`` (kwok.yaml). Ports are fixed, one of them on all interfaces, so it only starts in a
network namespace of its own (``make test-cluster``). Versions are those of tools/cluster; others can be named:

- ``KUBEBUILDER_ASSETS``: a folder with etcd, kube-apiserver, kubectl, ...; what it lacks is ours
- ``TRUEUP_TEST_KUBECONFIG``: a whole other cluster on this machine, its current context, with Rollouts and with
  pods that kwok plays by kwok.yaml. KUBECONFIG alone is never taken, so that nobody's cluster is touched by
  accident. Tests make namespaces ``trueup-test-...`` there, and those that stop a server are skipped.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.servers import programs
from tests.servers.programs import Process, UnavailableError, alone, answers, make, run, until

TOOLS = Path(__file__).parent / "tools" / "cluster"
STAGES = Path(__file__).parent / "kwok.yaml"
KUBERNETES, ROLLOUTS, KWOK = "k8s.io/kubernetes", "github.com/argoproj/argo-rollouts", "sigs.k8s.io/kwok"
KWOK_VERSION = "v0.8.0"
ARGO_CD, ARGO_CD_VERSION = "github.com/argoproj/argo-cd/v3", "v3.6.1"
"""Of Argo CD only the kinds of object: nothing syncs here."""
PACKAGES = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": f"{KUBERNETES}/cmd/kube-apiserver",
    "kube-controller-manager": f"{KUBERNETES}/cmd/kube-controller-manager",
    "kube-scheduler": f"{KUBERNETES}/cmd/kube-scheduler",
    "kubectl": f"{KUBERNETES}/cmd/kubectl",
    "rollouts-controller": f"{ROLLOUTS}/cmd/rollouts-controller",
}
SERVER = "https://127.0.0.1:6443"
READY = "trueup.test/ready"
AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}
"""Who asked for what and with which answer, and nothing of what was in it."""
LOG_LINES = "serving\nready\n"
"""What every container of the fake nodes has printed."""


class Cluster(NamedTuple):
    """A cluster that runs, and its administrator's kubeconfig."""

    kubeconfig: Path
    command: str
    processes: dict[str, Process]
    """Empty for a cluster that is not ours."""
    audit: Path | None = None
    """The API server's audit log, one event a line; none of a cluster that is not ours."""

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        return run([self.command, "--kubeconfig", str(self.kubeconfig), *arguments], stdin=stdin)

    def get(self, *arguments: str) -> dict[str, Any]:
        found = json.loads(self.kubectl("get", "--output=json", *arguments))
        assert isinstance(found, dict)
        return found

    def apply(self, *objects: dict[str, Any]) -> None:
        """As an administrator's own server-side apply."""
        items = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "--server-side", "--filename=-", stdin=json.dumps(items))

    def requests(self, user: str) -> list[dict[str, Any]]:
        """The audit events of everything that ``user`` has asked of the API server, in order."""
        if self.audit is None:
            pytest.skip("the audit log of this cluster is not ours to read")
        events = (json.loads(line) for line in self.audit.read_text().splitlines())
        return [event for event in events if event["user"]["username"] == user]

    def install(self, kinds: Path) -> None:
        """CustomResourceDefinitions, and what else is in that file or folder; they may be there already."""
        self.kubectl("apply", "--server-side", f"--filename={kinds}")

        def is_known() -> bool:
            try:
                self.kubectl("wait", "--for=condition=Established", "--all", "crd", "--timeout=5s")
            except RuntimeError:  # kubectl does not wait for one that has no status at all yet
                return False
            return True

        until(is_known)

    @contextmanager
    def namespace(self) -> Iterator[str]:
        """A new namespace in which pods can be made."""
        name = f"trueup-test-{time.time_ns():x}"
        self.kubectl("create", "namespace", name)
        try:
            until(lambda: "default" in self.kubectl("--namespace", name, "get", "serviceaccounts"))
            yield name
        finally:
            self.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")

    def token(self, namespace: str, account: str) -> str:
        """A new token of a ServiceAccount, for an hour."""
        return self.kubectl("--namespace", namespace, "create", "token", account).strip()

    def kubeconfig_of(self, token: str, file: Path) -> Path:
        """A kubeconfig for this cluster and a token."""
        config = json.loads(self.kubectl("config", "view", "--raw", "--minify", "--output=json"))
        config["users"] = [{"name": config["contexts"][0]["context"]["user"], "user": {"token": token}}]
        file.touch(0o600)
        file.write_text(json.dumps(config))
        return file

    @contextmanager
    def stopped(self, process: str) -> Iterator[None]:
        """While one of the servers does nothing, without noticing."""
        if process not in self.processes:
            pytest.skip(f"{process} is not ours to stop")
        with self.processes[process].paused():
            yield


# --- binaries ---------------------------------------------------------------------------------------------


def cached() -> Path:
    """The folder of this version."""
    return programs.cached(f"cluster-{_version()}")


def binary(name: str) -> Path:
    given = Path(os.environ.get("KUBEBUILDER_ASSETS", "/nowhere")) / name
    return given if given.is_file() else cached() / name


def build() -> Path:
    """:func:`cached` with everything in it. Minutes the first time; who comes second waits for the first."""
    folder = cached()
    stamp = f"-X k8s.io/component-base/version.gitVersion=v{_version()}"  # nodes and clients compare versions
    with alone(folder):
        for name, package in PACKAGES.items():
            if not binary(name).exists():
                flags = f"-s -w {stamp}" if package.startswith(KUBERNETES) else "-s -w"
                unfinished = folder / f"{name}.unfinished"
                _go("build", "-trimpath", f"-ldflags={flags}", "-o", str(unfinished), package)
                unfinished.rename(folder / name)
        if not binary("kwok").exists():
            _go("install", "-trimpath", "-ldflags=-s -w", f"{KWOK}/cmd/kwok@{KWOK_VERSION}", GOBIN=str(folder))
        _manifests(folder / "rollouts", ROLLOUTS, "crds/*-crd.yaml", "role/argo-rollouts-clusterrole.yaml")
        _manifests(folder / "argocd", f"{ARGO_CD}@{ARGO_CD_VERSION}", "crds/*-crd.yaml")
    return folder


def _manifests(to: Path, module: str, *patterns: str) -> None:
    """These files of what a module of the Argo project ships to be applied, where they are not there yet."""
    if to.exists():
        return
    sources = Path(json.loads(_go("mod", "download", "-json", module, GOFLAGS="-mod=mod"))["Dir"]) / "manifests"
    unfinished = to.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    for file in (file for pattern in patterns for file in sources.glob(pattern)):
        shutil.copyfile(file, unfinished / file.name)
    unfinished.rename(to)


def _version() -> str:
    replaced = f"{KUBERNETES} => {KUBERNETES} v"
    return next(
        line.rpartition(replaced)[2] for line in (TOOLS / "go.mod").read_text().splitlines() if replaced in line
    )


def _go(*command: str, **environment: str) -> str:
    # Rollouts asks for a newer Go than distributions have; Go fetches it like a module.
    settings = {"GOTOOLCHAIN": "go1.27.3", "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false"} | environment
    if "GOBIN" not in environment:
        settings["GOFLAGS"] += " -mod=readonly"
    needs = "Go is needed to build a Kubernetes control plane: https://go.dev/doc/install"
    return make(["go", *command], needs=needs, cwd=TOOLS, env={**os.environ, **settings})


# --- running ----------------------------------------------------------------------------------------------


@contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """A new cluster with everything it writes in ``folder``; or the one that TRUEUP_TEST_KUBECONFIG names."""
    given = os.environ.get("TRUEUP_TEST_KUBECONFIG")
    if given:
        yield Cluster(Path(given), shutil.which("kubectl") or str(build() / "kubectl"), {})
        return
    others = [name for _, name in socket.if_nameindex() if name != "lo"]
    if others:
        raise UnavailableError(
            "the cluster for tests runs in a network namespace of its own, which root makes: "
            f"`make test-cluster`; here is {', '.join(others)}"
        )
    build()
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        servers = _Servers(folder, stack)
        _certificates(folder)
        yield _start(folder, servers)


class _Servers:
    """The processes of one cluster, each with a log in its folder. Who came last is stopped first."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self._stack = folder, stack
        self.processes: dict[str, Process] = {}

    def start(self, name: str, **flags: str) -> Process:
        """Start it with --flag=value; an underscore in a flag is a dash."""
        command = [str(binary(name)), *(f"--{flag.replace('_', '-')}={value}" for flag, value in flags.items())]
        # No variable of this machine decides what a server does, or in whose name.
        environment = {"PATH": os.defpath, "HOME": str(self.folder), "POD_NAMESPACE": "argo-rollouts"}
        process = self.processes[name] = Process(command, self.folder / f"{name}.log", env=environment)
        self._stack.callback(process.stop)
        return process


def _start(folder: Path, servers: _Servers) -> Cluster:
    etcd = "http://127.0.0.1:2379"
    (folder / "audit.yaml").write_text(json.dumps(AUDIT))
    servers.start(
        "etcd",
        data_dir="etcd",
        unsafe_no_fsync="true",
        log_level="warn",
        listen_client_urls=etcd,
        advertise_client_urls=etcd,
        listen_peer_urls="http://127.0.0.1:2380",
        initial_advertise_peer_urls="http://127.0.0.1:2380",
        initial_cluster="default=http://127.0.0.1:2380",
    )
    server = servers.start(
        "kube-apiserver",
        etcd_servers=etcd,
        bind_address="127.0.0.1",
        secure_port="6443",
        advertise_address="127.0.0.1",
        audit_policy_file="audit.yaml",
        audit_log_path="audit.log",
        endpoint_reconciler_type="none",  # it refuses to publish a loopback address
        authorization_mode="Node,RBAC",
        service_cluster_ip_range="10.96.0.0/16",
        client_ca_file="ca.crt",
        tls_cert_file="apiserver.crt",
        tls_private_key_file="apiserver.key",
        kubelet_client_certificate="admin.crt",
        kubelet_client_key="admin.key",
        kubelet_preferred_address_types="InternalIP",
        service_account_issuer="https://kubernetes.default.svc",
        service_account_signing_key_file="accounts.key",
        service_account_key_file="accounts.key",
    )
    trusted = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    server.until(lambda: answers(f"{SERVER}/readyz", trusted))
    common = {"bind_address": "127.0.0.1", "leader_elect": "false"}
    servers.start(
        "kube-controller-manager",
        kubeconfig="controller-manager.kubeconfig",
        use_service_account_credentials="true",
        service_account_private_key_file="accounts.key",
        root_ca_file="ca.crt",
        **common,
    )
    servers.start("kube-scheduler", kubeconfig="scheduler.kubeconfig", **common)
    kubectl, audit = str(binary("kubectl")), folder / "audit.log"
    cluster = Cluster(folder / "admin.kubeconfig", kubectl, servers.processes, audit)
    _machines(folder, servers, cluster)
    _rollouts(folder, servers, cluster)
    until(lambda: "default" in cluster.kubectl("--namespace=default", "get", "serviceaccounts"))
    return cluster


def _machines(folder: Path, servers: _Servers, cluster: Cluster) -> None:
    """kwok and two nodes that it plays."""
    (folder / "container.log").write_text(
        "".join(f"2026-01-01T00:00:00.000000000Z stdout F {line}\n" for line in LOG_LINES.splitlines())
    )
    logs = {"logs": [{"logsFile": str(folder / "container.log"), "follow": False}]}
    served = {"apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": "ClusterLogs", "metadata": {"name": "logs"}}
    (folder / "kwok.yaml").write_text(f"{STAGES.read_text()}---\n{json.dumps(served | {'spec': logs})}\n")
    kwok = servers.start(
        "kwok",
        kubeconfig="admin.kubeconfig",
        config="kwok.yaml",
        manage_nodes_with_annotation_selector="kwok.x-k8s.io/node=fake",
        node_lease_duration_seconds="40",
        cidr="10.245.0.0/24",
        node_ip="127.0.0.1",
        node_port="10247",
        server_address="127.0.0.1:10247",
    )
    room = {"cpu": "64", "memory": "256Gi", "pods": "500"}
    for name in ("fake-0", "fake-1"):
        metadata = {"name": name, "annotations": {"kwok.x-k8s.io/node": "fake"}, "labels": {"type": "kwok"}}
        node = {"apiVersion": "v1", "kind": "Node", "metadata": metadata}
        cluster.apply(node | {"status": {"capacity": room, "allocatable": room}})
    kwok.until(lambda: cluster.kubectl("wait", "--for=condition=Ready", "node", "--all", "--timeout=5s"))


def _rollouts(folder: Path, servers: _Servers, cluster: Cluster) -> None:
    """The Argo Rollouts controller under its own account and upstream's rights."""
    name = "argo-rollouts"
    cluster.install(cached() / "rollouts")
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("--namespace", name, "create", "serviceaccount", name)
    cluster.kubectl(
        "create", "clusterrolebinding", name, f"--clusterrole={name}", f"--serviceaccount={name}:{name}"
    )
    cluster.kubeconfig_of(cluster.token(name, name), folder / "rollouts.kubeconfig")
    controller = servers.start(
        "rollouts-controller",
        kubeconfig="rollouts.kubeconfig",
        namespace=name,
        leader_elect="false",
        metricsPort="8090",
        healthzPort="8089",
    )
    controller.until(lambda: answers("http://127.0.0.1:8089/healthz"))


def _certificates(folder: Path) -> None:
    """An authority of this run's own, what it signs, and a key for ServiceAccount tokens."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    def write(file: str, content: bytes) -> None:
        path = folder / file
        path.touch(0o600)
        path.write_bytes(content)

    def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
        return key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )

    def name(common: str, organization: str = "") -> x509.Name:
        parts = [x509.NameAttribute(NameOID.COMMON_NAME, common)]
        if organization:
            parts.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
        return x509.Name(parts)

    now = datetime.now(UTC)
    authority = ec.generate_private_key(ec.SECP256R1())

    def certificate(subject: x509.Name, key: ec.EllipticCurvePrivateKey, *extensions: Any) -> bytes:
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(name("test-authority"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=2))
        )
        for extension in extensions:
            made = made.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return made.sign(authority, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    ca = certificate(name("test-authority"), authority, x509.BasicConstraints(ca=True, path_length=0))
    write("ca.crt", ca)
    write("accounts.key", pem(rsa.generate_private_key(65537, 2048)))
    for file, subject in {
        "apiserver": name("kube-apiserver"),
        "admin": name("admin", "system:masters"),
        "controller-manager": name("system:kube-controller-manager"),
        "scheduler": name("system:kube-scheduler"),
    }.items():
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName("localhost")]
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        signed = certificate(subject, key, x509.SubjectAlternativeName(names), x509.ExtendedKeyUsage(usages))
        write(f"{file}.crt", signed)
        write(f"{file}.key", pem(key))
        user = {
            "client-certificate-data": base64.b64encode(signed).decode(),
            "client-key-data": base64.b64encode(pem(key)).decode(),
        }
        server = {"server": SERVER, "certificate-authority-data": base64.b64encode(ca).decode()}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": server}],
            "users": [{"name": file, "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": file}}],
            "current-context": "test",
        }
        write(f"{file}.kubeconfig", json.dumps(config).encode())
