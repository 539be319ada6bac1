"""Configuration: schema, loading, published trees."""

from svllreid.config.keys import known_keys, may_change
from svllreid.config.load import from_tree, load_config
from svllreid.config.overrides import override_pairs
from svllreid.config.schema import Config
from svllreid.config.yaml_file import dump_tree

__all__ = ["Config", "dump_tree", "from_tree", "known_keys", "load_config", "may_change", "override_pairs"]
