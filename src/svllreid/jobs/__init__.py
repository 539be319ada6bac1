"""The jobs behind the commands: training, testing, the demonstration, the benchmark."""
