"""The published door: python test_svllreid.py --config_file FILE [KEY VALUE]... is svllreid test."""

import sys

from svllreid.cli.main import run

sys.argv.insert(1, "test")
run()
