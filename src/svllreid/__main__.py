"""python -m svllreid"""

from svllreid.cli.main import run

if __name__ == "__main__":  # where processes are spawned, each of them imports this file
    run()
