"""`python -m ssl_zoo` is the `ssl-zoo` command."""

from ssl_zoo.cli.main import main

if __name__ == "__main__":
    main()
