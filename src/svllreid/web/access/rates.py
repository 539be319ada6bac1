"""How often a client may ask: a bucket of tokens for each, which fills again over time."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict

_CLIENTS = 10_000  # so many are remembered; who asked longest ago is forgotten first


class RateLimit:
    """Counts requests by client.

    Args:
        rate: requests a second that a client may make for any length of time; 0 switches the limit off.
        burst: requests that it may make at once.
    Example:
        >>> limit = RateLimit(rate=1, burst=2)
        >>> [limit.wait("192.0.2.1", now) for now in (0.0, 0.0, 0.0, 1.0)]
        [0.0, 0.0, 1.0, 0.0]
    """

    def __init__(self, rate: float, burst: float) -> None:
        self.rate, self.burst = rate, burst
        self.buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self.lock = threading.Lock()

    def wait(self, client: str, now: float | None = None, *, cost: float = 1.0) -> float:
        """Takes a token; returns 0, or the seconds until there is one.

        Args:
            client: its address.
            now: a time in seconds, for tests; None: the clock's.
            cost: tokens to take; with 0 it is only asked whether there is one.
        """
        if not self.rate:
            return 0.0
        now = time.monotonic() if now is None else now
        with self.lock:
            left, last = self.buckets.pop(client, (self.burst, now))
            left = min(self.burst, left + (now - last) * self.rate)
            allowed = left >= 1
            self.buckets[client] = (left - cost if allowed else left, now)
            if len(self.buckets) > _CLIENTS:
                self.buckets.popitem(last=False)
        return 0.0 if allowed else (1 - left) / self.rate


def client_of(address: str) -> str:
    """Who counts as one client: an address of IPv4, or of IPv6 the network that one customer has.

    >>> client_of("192.0.2.7"), client_of("2001:db8:1:2:3:4:5:6")
    ('192.0.2.7', '2001:db8:1:2::')
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    return str(ipaddress.ip_network((int(parsed) >> 64 << 64, 64)).network_address)
