"""The published door: python test_svllreid.py --config_file FILE [KEY VALUE]... is svllreid test."""

import sys

from svllreid.cli.main import run

if __name__ == "__main__":  # where processes are spawned, each of them imports this file
    sys.argv.insert(1, "test")
    run()
