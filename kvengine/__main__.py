"""``python -m kvengine``: the command line, for when the script ``kvengine`` is not on the path."""

from kvengine.cli.main import main

if __name__ == "__main__":
    main()
