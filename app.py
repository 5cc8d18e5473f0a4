"""The page, as a Space starts it: ``python app.py``."""

from demo.serve import main

if __name__ == "__main__":
    main()
