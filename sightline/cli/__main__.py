"""`python -m sightline.cli`, so that torchrun can start a command."""

from sightline.cli import app

if __name__ == "__main__":
    app()
