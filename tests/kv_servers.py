"""Redis and Valkey as operators run them: a cluster, a primary with a replica under a Sentinel, a server with TLS."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from broker.core.errors import Unavailable
from broker.stores.kv.redis import RedisKeyValue
from tests.kv_engines import LossyProxy, binary
from tests.servers import free_ports, short_folder

SECONDS = 60.0
"""A Sentinel that did not run for two seconds believes nothing that it sees for 30 (its "TILT mode")."""
SLOTS = 16384


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something that comes by itself. Raises `RuntimeError` when it does not."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(redis.RedisError, OSError, Unavailable):
            if condition():
                return
        time.sleep(0.02)
    raise RuntimeError(f"{what}: not within {SECONDS:.0f} s")


class Process:
    """One server on a port of loopback. `files`: of `certificates`; it speaks TLS only, and only with who has one."""

    def __init__(
        self, engine: str, folder: Path, port: int, *lines: str, sentinel: bool = False, files: Path | None = None
    ) -> None:
        self.port = port
        self._files = files
        self._engine, self._sentinel = engine, sentinel
        self._folder = folder / str(port)
        self._folder.mkdir()
        self._file = self._folder / "server.conf"
        common = ["bind 127.0.0.1", f'dir "{self._folder}"', "daemonize no", f"logfile {self._folder}/log"]
        if files is not None:
            common += [
                "port 0", f"tls-port {port}", f"tls-cert-file {files}/server.crt", f"tls-key-file {files}/server.key",
                f"tls-ca-cert-file {files}/ca.crt", "tls-auth-clients yes", "tls-replication yes",
            ]  # fmt: skip
        elif not any(line.startswith("tls-port") for line in lines):
            common.append(f"port {port}")
        if not sentinel:
            common += ['save ""', "appendonly no"]
        self._file.write_text("\n".join([*common, *lines]) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [str(binary(self._engine)), str(self._file), *(["--sentinel"] if self._sentinel else [])]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)

    def signal(self, number: int) -> None:
        if self._process is not None:
            os.kill(self._process.pid, number)

    def kill(self) -> None:
        """As `kill -9` does; also one that is stopped."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def ask(self, *command: str | int) -> object:
        with self.client() as client:
            return client.execute_command(*command)

    def client(self, *, decode_responses: bool = False) -> redis.Redis:
        secure = {} if self._files is None else _as_client(self._files)
        return redis.Redis(port=self.port, socket_timeout=2, decode_responses=decode_responses, **secure)  # type: ignore[arg-type]

    def info(self, section: str) -> str:
        address = f"127.0.0.1:{self.port}"
        kv = RedisKeyValue.connect(f"redis://{address}" if self._files is None else over_tls(address, self._files))
        with contextlib.closing(kv):
            (told,) = kv.everywhere("INFO", section).values()
            return bytes(told).decode()


@contextlib.contextmanager
def processes() -> Iterator[Callable[..., Process]]:
    """Start servers; all of them are gone after the block."""
    started: list[Process] = []
    with short_folder() as folder:

        def start(engine: str, port: int, *lines: str, sentinel: bool = False, files: Path | None = None) -> Process:
            process = Process(engine, folder, port, *lines, sentinel=sentinel, files=files)
            started.append(process)
            process.start()
            return process

        try:
            yield start
        finally:
            for process in started:
                process.kill()


class Nodes:
    """A cluster. The first `primaries` nodes own the slots in equal parts; each further one replicates one of them."""

    def __init__(self, nodes: list[Process], primaries: int, files: Path | None = None) -> None:
        self.nodes = nodes
        self.primaries = primaries
        self._files = files

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        return f"redis+cluster://{hosts}" if self._files is None else over_tls(hosts, self._files, "rediss+cluster")

    def form(self) -> None:
        for number, node in enumerate(self.nodes, 1):
            until(lambda node=node: node.ask("PING") is not None, "a node")  # type: ignore[misc]
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number)
        for number, node in enumerate(self.nodes[: self.primaries]):
            first, end = (SLOTS * at // self.primaries for at in (number, number + 1))
            node.ask("CLUSTER", "ADDSLOTSRANGE", first, end - 1)
        for node in self.nodes[1:]:
            self.nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", node.port, node.port + len(self.nodes))
        for node in self.nodes:
            until(lambda node=node: self._knows_all(node), "the nodes know each other")  # type: ignore[misc]
        for number, node in enumerate(self.nodes[self.primaries :]):
            node.ask("CLUSTER", "REPLICATE", self.id(self.nodes[number]))
        for node in self.nodes:
            until(lambda node=node: self._is_well(node), "the cluster is well")  # type: ignore[misc]

    def id(self, node: Process) -> str:
        return _text(node.ask("CLUSTER", "MYID"))

    def _knows_all(self, node: Process) -> bool:
        with node.client(decode_responses=True) as client:
            return int(client.cluster("INFO")["cluster_known_nodes"]) == len(self.nodes)

    def _is_well(self, node: Process) -> bool:
        with node.client(decode_responses=True) as client:
            slots, role = client.cluster("SLOTS"), client.execute_command("ROLE")
            told = client.cluster("INFO")["cluster_state"] == "ok"
            linked = role[0] == "master" or role[3] == "connected"
            return told and linked and len(slots) == self.primaries


def _text(answer: object) -> str:
    return answer.decode() if isinstance(answer, bytes) else str(answer)


@contextlib.contextmanager
def cluster(engine: str, primaries: int = 3, replicas: int = 0, files: Path | None = None) -> Iterator[Nodes]:
    """`files`: of `certificates`; the nodes speak TLS, also with each other."""
    # Nodes talk to each other on the ports behind theirs; on port + 10000, which may be taken, unless told.
    count = primaries + replicas
    first = free_ports(2 * count)
    with processes() as start:
        nodes = Nodes(
            [
                start(
                    engine,
                    first + number,
                    "cluster-enabled yes",
                    f"cluster-port {first + count + number}",
                    "cluster-node-timeout 1000",
                    "repl-ping-replica-period 1",
                    "repl-diskless-sync-delay 0",
                    *(() if files is None else ("tls-cluster yes",)),
                    files=files,
                )
                for number in range(count)
            ],
            primaries,
            files,
        )
        nodes.form()
        yield nodes


class Watched:
    """A primary, a replica, and a Sentinel that promotes the replica when the primary is gone for half a second."""

    def __init__(
        self, primary: Process, replica: Process, sentinel: Process, link: LossyProxy, files: Path | None = None
    ) -> None:
        self.primary, self.replica, self.sentinel = primary, replica, sentinel
        self._files = files
        self.link = link
        """What the primary tells the replica goes through it."""

    @property
    def url(self) -> str:
        # The first Sentinel is one that nobody started: there is another.
        hosts = f"127.0.0.1:1,127.0.0.1:{self.sentinel.port}"
        if self._files is None:
            return f"redis+sentinel://{hosts}/acme"
        return over_tls(f"{hosts}/acme", self._files, "rediss+sentinel")

    def promoted(self) -> bool:
        return "role:master" in self.replica.info("replication")


@contextlib.contextmanager
def watched(engine: str, files: Path | None = None) -> Iterator[Watched]:
    """`files`: of `certificates`; all of them speak TLS."""
    first = free_ports(3)
    with processes() as start, contextlib.ExitStack() as held:
        primary = start(engine, first, "repl-diskless-sync-delay 0", files=files)
        until(lambda: primary.ask("PING") is not None, "the primary")
        link = held.enter_context(contextlib.closing(LossyProxy(f"redis://127.0.0.1:{first}")))
        replica = start(engine, first + 1, f"replicaof 127.0.0.1 {urlsplit(link.url).port}", files=files)
        until(lambda: "master_link_status:up" in replica.info("replication"), "the replica")
        sentinel = start(
            engine, first + 2, f"sentinel monitor acme 127.0.0.1 {first} 1",
            "sentinel down-after-milliseconds acme 500", "sentinel failover-timeout acme 3000",
            sentinel=True, files=files,
        )  # fmt: skip
        until(lambda: "slaves=1" in sentinel.info("sentinel"), "the Sentinel")
        yield Watched(primary, replica, sentinel, link, files)


@contextlib.contextmanager
def guarded(engine: str) -> Iterator[tuple[str, Path]]:
    """A server with TLS that asks for a client certificate and a password: its address without options, the files."""
    port = free_ports(1)
    with short_folder() as files, processes() as start:
        authority = certificates(files)
        start(
            engine, port, "port 0", f"tls-port {port}", f"tls-cert-file {files}/server.crt",
            f"tls-key-file {files}/server.key", f"tls-ca-cert-file {authority}", "tls-auth-clients yes",
            "user default off", "user homerealm on >s3cret/% ~* &* +@all",
        )  # fmt: skip

        def answers() -> bool:
            with redis.Redis(port=port, username="homerealm", password="s3cret/%", **_as_client(files)) as client:  # type: ignore[arg-type]
                return bool(client.ping())

        until(answers, "the server with TLS")
        yield f"127.0.0.1:{port}", files


def _as_client(files: Path) -> dict[str, object]:
    return {
        "ssl": True, "ssl_ca_certs": f"{files}/ca.crt", "ssl_certfile": f"{files}/client.crt",
        "ssl_keyfile": f"{files}/client.key",
    }  # fmt: skip


def over_tls(rest: str, files: Path, scheme: str = "rediss") -> str:
    return f"{scheme}://{rest}?ca_bundle={files}/ca.crt&certificate={files}/client.crt&key={files}/client.key"


def certificates(folder: Path) -> Path:
    """An authority, and what it signed for a server on loopback and for a client."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
    now = datetime.now(UTC)

    def sign(subject: x509.Name, public: ec.EllipticCurvePublicKey, authority: bool) -> x509.Certificate:
        names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(names, critical=False)
        )
        return builder.sign(key, hashes.SHA256())

    _write(folder / "ca.crt", sign(name, key.public_key(), True))
    for who in ("server", "client"):
        own = ec.generate_private_key(ec.SECP256R1())
        (folder / f"{who}.key").write_bytes(
            own.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, who)])
        _write(folder / f"{who}.crt", sign(subject, own.public_key(), False))
    return folder / "ca.crt"


def _write(file: Path, certificate: x509.Certificate) -> None:
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


STOP, GO_ON = signal.SIGSTOP, signal.SIGCONT
