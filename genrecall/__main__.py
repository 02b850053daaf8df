"""`python -m genrecall`: the command, where its script is not on the path."""

from genrecall.cli.main import main

if __name__ == "__main__":
    main()
