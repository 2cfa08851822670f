"""Make a data set's folder from ratings: see DiffRec/preparation/main.py, which is this command."""

from DiffRec.engine.commands import command
from DiffRec.preparation.main import main

if __name__ == "__main__":
    command(main)
