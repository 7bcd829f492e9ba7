"""The way to the broker, step by step: its name, the port, TLS, the device's certificate, the login."""

from __future__ import annotations

import random
import socket
import ssl
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path

from agent.broker import Broker, Down, Up
from agent.broker.session import tls_context
from agent.clock import Clock
from agent.doctor.check import Check
from agent.errors import ConfigError
from agent.settings import BrokerSettings, Settings

CONNECT_S = 5.0
LOGIN_S = 20.0
_DENIED = (0x85, 0x86, 0x87, 0x8A)
"""MQTT 5: client id, credentials or authorisation refused, banned."""
_UNSUPPORTED_PROTOCOL = 0x84
_SOON = timedelta(days=30)


def check_broker(settings: Settings, clock: Clock) -> list[Check]:
    """Findings about the broker, up to the first step that fails."""
    broker = settings.broker
    if not broker.host:
        return [Check("broker", "warn", "none is configured", 'write host = "broker.example" under [broker]')]
    try:
        tls = tls_context(broker) if broker.tls else None
    except ConfigError as error:
        return [Check("broker", "fail", error.what, error.remedy)]
    found = _certificate(settings, clock) if broker.cert_file else []
    where = f"{broker.host}:{broker.port}"
    return [*found, _reach(broker, where, tls) or _log_in(settings, where, clock)]


def _reach(broker: BrokerSettings, where: str, tls: ssl.SSLContext | None) -> Check | None:
    """What stands between here and an open (TLS) connection, if anything."""
    try:
        with socket.create_connection((broker.host, broker.port), CONNECT_S) as channel:
            if tls is not None:
                tls.wrap_socket(channel, server_hostname=broker.host).close()
    except socket.gaierror:
        return Check("broker", "fail", f"the name {broker.host} is not known", "correct broker.host, or repair DNS")
    except ssl.SSLCertVerificationError as error:
        remedy = "set broker.ca_file to the authority that signed the broker's certificate; check the clock"
        return Check("broker", "fail", f"{where}: {error.verify_message}", remedy)
    except ssl.SSLError as error:
        remedy = "is this the TLS port (usually 8883), and does the broker ask for a client certificate?"
        return Check("broker", "fail", f"{where}: no TLS: {error.reason or error}", remedy)
    except OSError as error:
        remedy = "is the broker running, the port right, and no firewall in between?"
        return Check("broker", "fail", f"{where}: {error.strerror or error}", remedy)
    return None


def _log_in(settings: Settings, where: str, clock: Clock) -> Check:
    """What the broker says to a CONNECT, under an id of its own: the service's would be thrown out."""
    ends: list[Up | Down] = []
    settled = threading.Event()

    def listen(event: Up | Down) -> None:
        if isinstance(event, Up) or event.code != _UNSUPPORTED_PROTOCOL:
            ends.append(event)
            settled.set()

    broker = Broker(settings.broker, f"{settings.device.id}-check", clock, random.Random())
    broker.watch(listen)
    broker.start()
    settled.wait(LOGIN_S)
    broker.close()
    if not ends:
        return Check("broker", "fail", f"{where} does not answer", "is this the port of an MQTT broker?")
    if isinstance(ends[0], Down):
        return _refusal(ends[0], where)
    protocol = "MQTT 5" if ends[0].protocol == 5 else "MQTT 3.1.1"
    return Check("broker", "ok", f"{where} lets us in, {protocol}{', TLS' if settings.broker.tls else ''}")


def _refusal(down: Down, where: str) -> Check:
    if down.code in _DENIED:
        remedy = "check broker.username, the password or certificate, and the broker's ACL"
        return Check("broker", "fail", f"{where} refuses us: {down.reason}", remedy)
    remedy = "is this an MQTT broker, and does it allow a client id that ends in -check?"
    return Check("broker", "warn", f"{where}: {down.reason}", remedy)


def _certificate(settings: Settings, clock: Clock) -> list[Check]:
    """What is wrong, or soon will be, with the device's own certificate."""
    from cryptography import x509  # 7 MB that a service can do without
    from cryptography.x509.oid import NameOID

    certificate = x509.load_pem_x509_certificate(Path(settings.broker.cert_file).read_bytes())
    now = datetime.fromtimestamp(clock.wall_ns() / 1e9, timezone.utc)
    ends = certificate.not_valid_after_utc
    if not certificate.not_valid_before_utc <= now <= ends:
        detail = f"valid from {certificate.not_valid_before_utc:%Y-%m-%d} to {ends:%Y-%m-%d}, and now is {now:%Y-%m-%d}"
        return [
            Check("certificate", "fail", detail, "renew it with `tailkeeper provision --cert --key`; check the clock")
        ]
    found = []
    if ends - now < _SOON:
        detail = f"it ends on {ends:%Y-%m-%d}"
        found.append(Check("certificate", "warn", detail, "renew it with `tailkeeper provision --cert --key`"))
    names = [str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if settings.device.id not in names and settings.cameras:
        detail = f"its common name is {', '.join(names) or 'empty'}, and this device is {settings.device.id}"
        found.append(
            Check("certificate", "warn", detail, "set device.id to the common name, or the ACL will not match")
        )
    return found or [Check("certificate", "ok", f"valid until {ends:%Y-%m-%d}")]
