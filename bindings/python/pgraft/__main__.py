"""`python -m pgraft`."""

from pgraft.cli import app

if __name__ == "__main__":
    app(prog_name="pgraft")
