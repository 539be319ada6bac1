"""The published door: python train_svllreid.py --config_file FILE [KEY VALUE]... is svllreid train."""

import sys

from svllreid.cli.main import run

if __name__ == "__main__":  # where processes are spawned, each of them imports this file
    sys.argv.insert(1, "train")
    run()
