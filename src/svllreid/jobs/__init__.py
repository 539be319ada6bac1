"""What the command line does with what `build` makes: train, test, demo."""
