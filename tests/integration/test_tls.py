"""TLS against a real mosquitto: the broker's certificate is checked, and ours is what it knows us by."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.fakes.mosquitto import Mosquitto
from tests.integration.conftest import StartMosquitto
from tests.integration.delivery import PATIENCE_S, broker_settings, wait_until
from tests.integration.test_broker import Client, fate


class Authority:
    """A certificate authority of a test's own."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir()
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.file = folder / "ca.pem"
        self._write(self.file, self._sign(self._name, self._key, authority=True))

    def issue(self, name: str) -> tuple[Path, Path]:
        """Certificate and key files for this common name, valid for loopback."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate, key_file = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        self._write(certificate, self._sign(subject, key, authority=False))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return certificate, key_file

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, authority: bool) -> x509.Certificate:
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
            )
        )
        return builder.sign(self._key, hashes.SHA256())

    @staticmethod
    def _write(path: Path, certificate: x509.Certificate) -> None:
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca", "test authority")


@pytest.fixture
def secured(start_mosquitto: StartMosquitto, authority: Authority) -> Mosquitto:
    certificate, key = authority.issue("broker")
    return start_mosquitto(
        f"cafile {authority.file}",
        f"certfile {certificate}",
        f"keyfile {key}",
        "require_certificate true",
        "use_identity_as_username true",
    )


def test_a_client_with_a_certificate_of_the_authority_gets_in(secured: Mosquitto, authority: Authority) -> None:
    certificate, key = authority.issue("gate")
    files = {"ca_file": str(authority.file), "cert_file": str(certificate), "key_file": str(key)}
    with Client(broker_settings(secured.port, tls=True, **files), "gate", "x") as client:
        assert fate(client.connect().publish("x", bytes(100_000))) == "accepted"
        assert len(client.messages.get(timeout=PATIENCE_S).payload) == 100_000


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # paho leaves the socket to be collected
def test_a_broker_of_another_authority_is_not_spoken_to(
    secured: Mosquitto, authority: Authority, tmp_path: Path
) -> None:
    certificate, key = authority.issue("gate")
    foreign = Authority(tmp_path / "foreign", "somebody else")
    files = {"ca_file": str(foreign.file), "cert_file": str(certificate), "key_file": str(key)}
    with Client(broker_settings(secured.port, tls=True, **files), "gate") as client:
        wait_until(lambda: "CERTIFICATE_VERIFY_FAILED" in client.problem, "the refusal is told")
        assert not client.ups


def test_a_client_without_a_certificate_does_not_get_in(secured: Mosquitto, authority: Authority) -> None:
    with Client(broker_settings(secured.port, tls=True, ca_file=str(authority.file)), "gate") as client:
        wait_until(lambda: bool(client.ends), "the refusal is told")
        assert not client.ups
