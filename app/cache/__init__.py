"""The cache of forecasts: in this process, behind it a Redis that others share, one flight per key over all of them.

codec.py        keys and values: nothing readable, nothing forged
forecasts.py    look up, wait for whoever computes it already, or compute
redis_client.py a client from a URL: server, Sentinels, cluster
redis_store.py  forecasts and claims in Redis
stores.py       what a store is; the one in memory; two of them in tiers
"""

from app.cache.codec import Codec, Values
from app.cache.forecasts import ForecastCache, Found, joined
from app.cache.stores import MemoryStore, Store, TieredStore

__all__ = ["Codec", "ForecastCache", "Found", "MemoryStore", "Store", "TieredStore", "Values", "joined"]
