"""The vendor's own Python clients, pointed at a sandbox. Neither reads a gateway from the environment."""

from __future__ import annotations

from typing import Any

import databento
from databento.historical.api.batch import BatchHttpAPI
from databento.historical.api.metadata import MetadataHttpAPI
from databento.historical.api.symbology import SymbologyHttpAPI
from databento.historical.api.timeseries import TimeseriesHttpAPI


def live_client(key: str, host: str, port: int, **options: Any) -> databento.Live:
    """A `databento.Live`; `options` are those of its constructor."""
    return databento.Live(**{"key": key, "gateway": host, "port": port, **options})


def historical_client(key: str, url: str) -> databento.Historical:
    """A `databento.Historical` that asks a server over http.

    Its constructor would make https of the URL; its parts, which do the asking, take a URL as it is. What was not
    replaced here would still ask this server, in vain, and not the vendor.
    """
    client = databento.Historical(key, gateway=url)
    client.batch = BatchHttpAPI(key=key, gateway=url)
    client.metadata = MetadataHttpAPI(key=key, gateway=url)
    client.symbology = SymbologyHttpAPI(key=key, gateway=url)
    client.timeseries = TimeseriesHttpAPI(key=key, gateway=url)
    return client
