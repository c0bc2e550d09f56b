"""`python -m basiscli` is the command `basiscli`."""

from basiscli.cli.group import main

if __name__ == "__main__":
    main()
