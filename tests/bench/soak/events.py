"""What happens to the soak's cameras, broker, collector and configuration."""

from __future__ import annotations

import signal
from collections.abc import Callable

from agent import wire
from agent.broker import Broker
from agent.clock import SystemClock
from agent.settings import BrokerSettings
from tests.bench.soak.rig import BUDGETS, DEVICE, SMALL, Soak
from tests.fakes.mjpeg import Mode

FAULT_S = 4.0
FAULTS: tuple[Mode, ...] = ("freeze", "stall", "close", "garbage", "refuse", "blink")
SIZES = (SMALL, (240, 320), (480, 640))


def trouble_camera(soak: Soak) -> None:
    camera = soak.rng.choice(list(soak.cameras.values()))
    camera.mode = soak.rng.choice(FAULTS)
    soak.wait(FAULT_S)
    camera.mode = "play"


def cut_camera(soak: Soak) -> None:
    """Its power fails; it comes back with another resolution."""
    camera = soak.rng.choice(list(soak.cameras.values()))
    camera.stop()
    camera.size = soak.rng.choice(SIZES)
    soak.wait(FAULT_S)
    camera.start()


def kill_broker(soak: Soak) -> None:
    soak.mosquitto.kill()
    soak.wait(soak.rng.uniform(0, FAULT_S))
    soak.mosquitto.start()


def trouble_collector(soak: Soak) -> None:
    """Killed while memory is not looked at yet; later it hangs, so that one and the same is looked at."""
    collector = soak.processes["collect"]
    if soak.warm:
        collector.send_signal(signal.SIGSTOP)
        soak.wait(2 * FAULT_S)
        collector.send_signal(signal.SIGCONT)
    else:
        collector.kill()
        collector.wait()
        soak.wait(soak.rng.uniform(0, FAULT_S))
        soak.start("collect")


def reload_configuration(soak: Soak) -> None:
    """The device is made anew, while memory is not looked at yet."""
    if not soak.warm:
        soak.configure()
        soak.processes["run"].send_signal(signal.SIGHUP)


def change_from_afar(soak: Soak) -> None:
    soak.version += 1
    values = {"selection": {"budget": soak.rng.choice(BUDGETS)}, "cameras": {"street": {"fps": 2.0}}}
    desired = wire.DesiredConfig(version=soak.version, values=values).encode()
    settings = BrokerSettings(host="127.0.0.1", port=soak.mosquitto.port, tls=False, reconnect_max_s=1.0)
    operator = Broker(settings, "soak-operator", SystemClock(), soak.rng)
    operator.start()
    if operator.wait_connected(10):
        operator.publish(f"tk/v1/{DEVICE}/dn/config", desired, retain=True).result(10)
    operator.close()


DECK: tuple[Callable[[Soak], None], ...] = (
    trouble_camera,
    trouble_camera,
    trouble_camera,
    cut_camera,
    kill_broker,
    kill_broker,
    trouble_collector,
    reload_configuration,
    change_from_afar,
)
"""What happens in a round."""
