"""Complete programs, to read, to run and to copy; the library never imports them."""
