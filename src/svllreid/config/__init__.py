"""Configuration: schema, loading, published trees."""

from svllreid.config.load import from_tree, known_keys, load_config
from svllreid.config.schema import Config

__all__ = ["Config", "from_tree", "known_keys", "load_config"]
