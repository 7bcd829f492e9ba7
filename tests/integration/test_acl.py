"""The shipped broker configuration: a device can neither read nor write what is another one's."""

from __future__ import annotations

import datetime
import random
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.broker import Broker, Message
from agent.clock import SystemClock
from agent.settings import BrokerSettings
from tests.fakes.mosquitto import Mosquitto, free_port, mosquitto_path
from tests.integration.delivery import wait_until

DEPLOY = Path(__file__).parents[2] / "deploy/mosquitto"
PASSWORD = "a word"
WAIT_S = 15.0


class Authority:
    """A certificate authority of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self._write("ca", self._certificate(self._name, self._key, authority=True), self._key)

    def issue(self, name: str) -> None:
        """``<name>.crt`` and ``<name>.key`` in the folder, with `name` as common name."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._write(name, self._certificate(subject, key, authority=False), key)

    def _certificate(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, authority: bool) -> x509.Certificate:
        now = datetime.datetime.now(datetime.timezone.utc)
        names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
        usage = x509.KeyUsage(
            digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
            key_agreement=False, key_cert_sign=authority, crl_sign=authority, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .add_extension(names, critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def _write(self, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        pem = serialization.Encoding.PEM
        (self.folder / f"{name}.crt").write_bytes(certificate.public_bytes(pem))
        (self.folder / f"{name}.key").write_bytes(
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )


class Shipped(Mosquitto):
    """A mosquitto with the shipped configuration; only ports and folders are the test's own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.staff_port = free_port()
        text = (DEPLOY / "tailkeeper.conf").read_text()
        for shipped, own in (
            ("listener 8883", f"listener {self.port} 127.0.0.1"),
            ("listener 8884", f"listener {self.staff_port} 127.0.0.1"),
            ("/etc/mosquitto/tailkeeper.acl", str(DEPLOY / "tailkeeper.acl")),
            ("/etc/mosquitto/tailkeeper.passwd", str(folder / "passwd")),
            ("/etc/mosquitto/certs", str(folder)),
        ):
            assert shipped in text, shipped
            text = text.replace(shipped, own)
        self._config.write_text(f"user root\n{text}")


class Client:
    """Somebody at the broker; what arrives is written down."""

    def __init__(self, settings: BrokerSettings, name: str, *filters: str) -> None:
        self.got: list[tuple[str, bytes]] = []
        self.broker = Broker(settings, name, SystemClock(), random.Random(1), session_s=0)
        for topic_filter in filters:
            self.broker.subscribe(topic_filter, self._arrived)
        self.broker.start()
        assert self.broker.wait_connected(WAIT_S), self.broker.problem

    def _arrived(self, message: Message) -> None:
        self.got.append((message.topic, message.payload))

    def say(self, topic: str, payload: bytes, *, retain: bool = False) -> str:
        return self.broker.publish(topic, payload, retain=retain).result(WAIT_S).fate

    def heard(self, topic: str) -> bool:
        return any(found == topic for found, _ in self.got)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shipped]:
    if mosquitto_path() is None:
        pytest.skip("mosquitto is not installed")
    folder = tmp_path_factory.mktemp("broker")
    authority = Authority(folder)
    for name in ("server", "gate-north", "gate-south"):
        authority.issue(name)
    (folder / "passwd").touch(0o600)
    for name in ("collector", "operator"):
        subprocess.run(["mosquitto_passwd", "-b", folder / "passwd", name, PASSWORD], check=True, capture_output=True)
    broker = Shipped(folder)
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def clients(site: Shipped) -> Iterator[Clients]:
    clients = Clients(site)
    yield clients
    clients.close()


class Clients:
    """Makes clients of the site, and ends them."""

    def __init__(self, site: Shipped) -> None:
        self._site = site
        self._folder = site.log.parent
        self._made: list[Client] = []

    def device(self, name: str, *filters: str, client_id: str = "") -> Client:
        certificate = {"cert_file": str(self._folder / f"{name}.crt"), "key_file": str(self._folder / f"{name}.key")}
        return self._make(client_id or name, filters, port=self._site.port, **certificate)

    def staff(self, name: str, *filters: str, password: str = PASSWORD) -> Client:
        return self._make(f"{name}-1", filters, port=self._site.staff_port, username=name, password=password)

    def _make(self, client_id: str, filters: tuple[str, ...], *, port: int, **access: str) -> Client:
        settings = BrokerSettings(host="localhost", port=port, ca_file=str(self._folder / "ca.crt"), **access)
        self._made.append(Client(settings, client_id, *filters))
        return self._made[-1]

    def close(self) -> None:
        for client in self._made:
            client.broker.close(1.0)


def test_a_device_reads_what_is_said_to_it_and_nothing_else(clients: Clients) -> None:
    own = clients.device("gate-north", "tk/v1/#", "$SYS/#")
    other = clients.device("gate-south")
    operator = clients.staff("operator")

    assert other.say("tk/v1/gate-south/up/status", b"secret") == "accepted"
    assert other.say("tk/v1/gate-south/up/c", b"secret") == "accepted"
    for topic in ("tk/v1/gate-south/dn/config", "tk/v1/gate-south/dn/cmd/1", "tk/v1/gate-south/dn/ack"):
        operator.say(topic, b"secret")
    allowed = ["tk/v1/_all/dn/config", "tk/v1/_g_north/dn/need", "tk/v1/gate-north/dn/cmd/1"]
    for topic in allowed:
        assert operator.say(topic, b"for you") == "accepted"

    wait_until(lambda: own.heard(allowed[-1]), "the last message")
    assert [topic for topic, _ in own.got] == allowed


def test_a_device_writes_its_own_topics_and_no_others(clients: Clients) -> None:
    operator = clients.staff("operator", "tk/v1/+/up/#", "tk/v1/+/dn/#")
    own = clients.device("gate-north")

    for topic in (
        "tk/v1/gate-south/up/status",
        "tk/v1/gate-south/up/c",
        "tk/v1/gate-south/dn/cmd/1",
        "tk/v1/gate-north/dn/config",
        "tk/v1/_all/dn/config",
        "tk/v1/_g_north/dn/config",
    ):
        assert own.say(topic, b"forged", retain=True) == "refused", topic
    assert own.say("tk/v1/gate-north/up/info", b"mine") == "accepted"

    wait_until(lambda: operator.heard("tk/v1/gate-north/up/info"), "the device's own message")
    assert [payload for _, payload in operator.got] == [b"mine"]


def test_a_device_cannot_take_another_ones_place_by_its_client_id(clients: Clients) -> None:
    south = clients.device("gate-south", "tk/v1/gate-south/dn/#")
    impostor = clients.device("gate-north", "tk/v1/gate-south/dn/#", client_id="gate-south")
    operator = clients.staff("operator")
    operator.say("tk/v1/gate-south/dn/cmd/7", b"for south")

    wait_until(lambda: south.heard("tk/v1/gate-south/dn/cmd/7"), "the command")
    assert south.broker.connections == 1
    assert impostor.got == []


def test_the_collector_hears_candidates_and_nothing_of_the_fleet(clients: Clients) -> None:
    collector = clients.staff("collector", "tk/v1/#")
    own = clients.device("gate-north", "tk/v1/gate-north/dn/#")

    own.say("tk/v1/gate-north/up/info", b"not yours")
    own.say("tk/v1/gate-north/up/c", b"candidate")
    wait_until(lambda: collector.heard("tk/v1/gate-north/up/c"), "the candidate")
    assert [payload for _, payload in collector.got] == [b"candidate"]
    assert collector.say("tk/v1/gate-north/dn/cmd/8", b"forged") == "refused"
    assert collector.say("tk/v1/gate-north/dn/ack", b"receipt") == "accepted"
    wait_until(lambda: own.heard("tk/v1/gate-north/dn/ack"), "the receipt")


@pytest.mark.parametrize("wrong", ["no certificate", "wrong password"])
def test_who_is_not_known_does_not_get_in(site: Shipped, wrong: str) -> None:
    folder = site.log.parent
    port, access = (site.port, {}) if wrong == "no certificate" else (
        site.staff_port, {"username": "operator", "password": "a guess"}
    )  # fmt: skip
    settings = BrokerSettings(host="localhost", port=port, ca_file=str(folder / "ca.crt"), **access)
    broker = Broker(settings, "stranger", SystemClock(), random.Random(1), session_s=0)
    tried = threading.Event()
    broker.watch(lambda _: tried.set())
    broker.start()
    assert tried.wait(WAIT_S)
    assert not broker.connected
    broker.close(0.5)
