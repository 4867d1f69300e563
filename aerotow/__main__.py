"""``python -m aerotow`` is the same as the command ``aerotow``."""

from aerotow.cli.main import main

if __name__ == "__main__":
    main()
