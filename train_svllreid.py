"""The published door: python train_svllreid.py --config_file FILE [KEY VALUE]... is svllreid train."""

import sys

from svllreid.cli.main import run

sys.argv.insert(1, "train")
run()
