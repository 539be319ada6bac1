"""A server on the gallery of a folder, in a process of its own that tests kill: python served.py FOLDER PORT-FILE."""

import importlib.util
import socket
import sys
from pathlib import Path

import uvicorn

place = Path(__file__).with_name("conftest.py")
spec = importlib.util.spec_from_file_location("drawn", place)
drawn = importlib.util.module_from_spec(spec)
spec.loader.exec_module(drawn)

if __name__ == "__main__":
    folder, port_file = map(Path, sys.argv[1:])
    if not (folder / "people.db").exists():
        drawn.fill(folder)
    app = drawn.make_app(drawn.make_service(folder))
    listening = socket.create_server(("127.0.0.1", 0))
    port_file.with_suffix(".new").write_text(str(listening.getsockname()[1]))
    port_file.with_suffix(".new").rename(port_file)
    config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=20)
    uvicorn.Server(config).run(sockets=[listening])
