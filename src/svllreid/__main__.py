"""python -m svllreid"""

from svllreid.cli.main import run

run()
